// Package lease shares the partitions out among the instances of a service.
// What an instance does for a partition on behalf of all, such as delivering what
// a dead one left behind, only the holder of its lease does.
package lease

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/partition"
)

// Key is where the lease of partition p lies. Its value is the holder's Token.
func Key(p int) string { return "cm:" + partition.Slot(p) + ":lease" }

func fenceKey(p int) string { return "cm:" + partition.Slot(p) + ":lease:fence" }

// Held is a lease in force.
type Held struct {
	Partition int
	// Token is the value of the lease, by which a script checks that it is in
	// force still.
	Token string
	// Fence grows each time the partition changes hands.
	Fence int64
}

// Options of leases. Zero fields take the defaults.
type Options struct {
	// TTL is how long a lease outlives its last renewal, 10 s. The holder itself
	// lets go after two thirds of it, so that its clock may run slow by a third.
	TTL time.Duration
	// Peers is how many instances there are, this one included; each takes its
	// share of the partitions. Nil counts one.
	Peers func(context.Context) (int, error)
}

// Leases are those of one instance.
type Leases struct {
	rdb    redis.UniversalClient
	holder string
	o      Options
	log    *slog.Logger

	mu   sync.Mutex
	held map[int]mine
}

type mine struct {
	Held
	until time.Time
}

// New returns the leases that holder, an instance's name, takes in rdb. It holds
// none before Run.
func New(rdb redis.UniversalClient, holder string, log *slog.Logger, o Options) *Leases {
	if o.TTL <= 0 {
		o.TTL = 10 * time.Second
	}
	return &Leases{rdb: rdb, holder: holder, o: o, log: log, held: map[int]mine{}}
}

// Held returns the leases in force, in no order.
func (l *Leases) Held() []Held {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	list := make([]Held, 0, len(l.held))
	for _, m := range l.held {
		if m.until.After(now) {
			list = append(list, m.Held)
		}
	}
	return list
}

// Run takes, renews and gives back leases until ctx ends; then it gives all back.
func (l *Leases) Run(ctx context.Context) error {
	tick := time.NewTicker(l.o.TTL / 4)
	defer tick.Stop()
	for {
		if err := l.round(ctx); err != nil && ctx.Err() == nil {
			l.log.WarnContext(ctx, "leases neither renewed nor taken", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return l.giveBack(ctx)
		}
	}
}

// takeScript renews a lease, or takes it if it is free.
// KEYS: lease, fence   ARGV: token held or ”, holder, ms to live
// Returns the token in force for us and its fence, or {} if it is another's.
var takeScript = redis.NewScript(`
local is = redis.call('GET', KEYS[1])
if is and is == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {is, redis.call('GET', KEYS[2])}
end
if is then return {} end
local fence = redis.call('INCR', KEYS[2])
local token = ARGV[2] .. '/' .. fence
redis.call('SET', KEYS[1], token, 'PX', ARGV[3])
return {token, tostring(fence)}`)

var giveScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)

// round renews what is held, gives back what exceeds the share, and takes free
// leases up to it.
func (l *Leases) round(ctx context.Context) error {
	peers := 1
	if l.o.Peers != nil {
		n, err := l.o.Peers(ctx)
		if err != nil {
			return fmt.Errorf("count the instances: %w", err)
		}
		peers = max(n, 1)
	}
	share := (partition.Count + peers - 1) / peers

	l.mu.Lock()
	held := make(map[int]string, len(l.held))
	for p, m := range l.held {
		held[p] = m.Token
	}
	l.mu.Unlock()

	var failed error
	count := len(held)
	// Instances that start together would all ask for the same partitions first.
	for _, p := range rand.Perm(partition.Count) {
		token, have := held[p]
		switch {
		case have && count > share:
			l.drop(p)
			count--
			if err := giveScript.Run(ctx, l.rdb, []string{Key(p)}, token).Err(); err != nil {
				failed = err
			}
		case have || count < share:
			got, err := l.take(ctx, p, token)
			switch {
			case err != nil:
				failed = err
			case got && !have:
				count++
			case !got && have:
				count--
			}
		}
		if failed != nil {
			return failed // Redis is gone; the next round tries anew
		}
	}
	return nil
}

func (l *Leases) take(ctx context.Context, p int, token string) (bool, error) {
	// Measured from before the request: the server counts from a later moment.
	until := time.Now().Add(l.o.TTL * 2 / 3)
	reply, err := takeScript.Run(ctx, l.rdb, []string{Key(p), fenceKey(p)}, token, l.holder, l.o.TTL.Milliseconds()).StringSlice()
	if err != nil {
		return false, fmt.Errorf("lease of partition %d: %w", p, err)
	}
	if len(reply) == 0 {
		l.drop(p)
		return false, nil
	}
	var fence int64
	if _, err := fmt.Sscan(reply[1], &fence); err != nil {
		return false, fmt.Errorf("lease of partition %d: fence %q: %w", p, reply[1], err)
	}
	l.mu.Lock()
	l.held[p] = mine{Held: Held{Partition: p, Token: reply[0], Fence: fence}, until: until}
	l.mu.Unlock()
	return true, nil
}

func (l *Leases) drop(p int) {
	l.mu.Lock()
	delete(l.held, p)
	l.mu.Unlock()
}

func (l *Leases) giveBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.o.TTL/4)
	defer cancel()
	l.mu.Lock()
	held := l.held
	l.held = map[int]mine{}
	l.mu.Unlock()
	for p, m := range held {
		if err := giveScript.Run(ctx, l.rdb, []string{Key(p)}, m.Token).Err(); err != nil {
			l.log.WarnContext(ctx, "leases not given back; they expire by themselves", "err", err)
			break
		}
	}
	return nil
}
