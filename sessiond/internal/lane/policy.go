package lane

import (
	"errors"
	"math/rand/v2"
	"time"
)

// Policy says how an entry is retried.
type Policy struct {
	// Attempts bounds the attempts; 0 leaves MaxAge as the only bound.
	Attempts int
	// MaxAge is the age after which a failed entry is not tried again; 0 is none.
	MaxAge time.Duration
	// First is the delay after the first attempt; each next one is twice as long,
	// up to Longest. Each is varied by a fifth, so that the lanes of a host that
	// was down do not come back in step.
	First, Longest time.Duration
	// DeadLetter keeps an entry that was given up, for somebody to replay it;
	// otherwise it is logged as failed.
	DeadLetter bool
	// Cap bounds the lane's length for entries of this kind; 0 is no bound.
	Cap int
}

// brief is for what is of no use minutes later (contract §1.4: two retries).
var brief = Policy{Attempts: 3, First: time.Second, Longest: 5 * time.Second, Cap: 1000}

// lasting is for what must arrive: 72 hours, then the dead-letter list.
var lasting = Policy{MaxAge: 72 * time.Hour, First: 2 * time.Second, Longest: time.Hour, DeadLetter: true}

// PolicyOf returns the policy of a kind.
func PolicyOf(k Kind) Policy {
	switch k {
	case CallAnswered, CallNotify, Alarm:
		return brief
	default:
		return lasting
	}
}

// Delay returns how long to wait after the n-th attempt, counted from 1.
func (p Policy) Delay(attempt int) time.Duration {
	d := p.First
	for i := 1; i < attempt && d < p.Longest; i++ {
		d *= 2
	}
	d = min(d, p.Longest)
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d))
}

// Exhausted says whether an entry that just failed is given up.
func (p Policy) Exhausted(attempt int, age time.Duration) bool {
	return p.Attempts > 0 && attempt >= p.Attempts || p.MaxAge > 0 && age >= p.MaxAge
}

// Permanent marks an error of Send after which a further attempt is pointless,
// such as a target that the policy on addresses refuses.
func Permanent(err error) error { return permanent{err} }

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// IsPermanent tells whether err was marked by [Permanent].
func IsPermanent(err error) bool {
	_, ok := errors.AsType[permanent](err)
	return ok
}
