package dialog

import "math/rand/v2"

// Offers keeps offer/answer exchanges of one dialog apart (RFC 3261 §14,
// RFC 3264 §4): one at a time, from one side at a time. It is state of the
// moment and not stored.
type Offers struct {
	ours, theirs bool
}

// BeginTheirs admits an INVITE or UPDATE of the far end, or refuses it: 491
// while an offer of ours is open, 500 while one of theirs is (§14.2).
func (o *Offers) BeginTheirs() *Refusal {
	switch {
	case o.ours:
		return &Refusal{Code: 491, Reason: "Request Pending"}
	case o.theirs:
		// §14.2: a random number of seconds between 0 and 10.
		return &Refusal{Code: 500, Reason: "Overlapping Request", RetryAfter: rand.IntN(11)}
	}
	o.theirs = true
	return nil
}

// EndTheirs closes the far end's exchange.
func (o *Offers) EndTheirs() { o.theirs = false }

// BeginOurs admits an offer of ours; false means that it has to wait.
func (o *Offers) BeginOurs() bool {
	if o.ours || o.theirs {
		return false
	}
	o.ours = true
	return true
}

// EndOurs closes our exchange.
func (o *Offers) EndOurs() { o.ours = false }
