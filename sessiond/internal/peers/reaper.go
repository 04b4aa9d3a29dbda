package peers

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Sessions is what the reaper needs of the store.
type Sessions interface {
	Owners(ctx context.Context) ([]string, error)
	OwnedBy(ctx context.Context, owner string) iter.Seq2[uuid.UUID, error]
	Load(ctx context.Context, id uuid.UUID) (store.Stored, error)
	Claim(ctx context.Context, id uuid.UUID, newOwner, ifOwner string, ifEpoch uint64) (uint64, error)
}

// Adopter takes over a session that this instance has just claimed.
type Adopter interface {
	Adopt(ctx context.Context, s store.Stored) error
}

// Reaper finds the sessions of dead instances and has them brought in order.
type Reaper struct {
	Peers    *Peers
	Sessions Sessions
	Adopter  Adopter
	Log      *slog.Logger
	// Every is how often it looks.
	Every time.Duration

	// missed counts the sweeps in a row that found an owner without a heartbeat.
	missed map[string]int
}

// patience is how many sweeps in a row must miss an owner before it counts as
// dead: when Redis comes back after an outage, all heartbeats have expired, and
// each instance needs a moment to announce itself again.
const patience = 3

// Serve looks until ctx ends.
func (r *Reaper) Serve(ctx context.Context) error {
	tick := time.NewTicker(r.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "looking for orphaned sessions failed; it is tried again", "err", err)
		}
	}
}

// sweep claims from every owner whose heartbeat stays away and who does not
// answer either (design: ownership).
func (r *Reaper) sweep(ctx context.Context) error {
	owners, err := r.Sessions.Owners(ctx)
	if err != nil {
		return err
	}
	alive, err := r.Peers.instances.List(ctx, Service)
	if err != nil {
		return err
	}
	r.Peers.remember(alive)
	known := map[string]bool{r.Peers.self: true}
	for _, i := range alive {
		known[i.Name] = true
	}
	missed := map[string]int{}
	for _, owner := range owners {
		if known[owner] {
			continue
		}
		missed[owner] = r.missed[owner] + 1
		if missed[owner] < patience || r.Peers.Alive(ctx, owner) {
			continue
		}
		if err := r.inherit(ctx, owner); err != nil {
			return err
		}
		r.Peers.forget(owner)
	}
	r.missed = missed
	return nil
}

func (r *Reaper) inherit(ctx context.Context, owner string) error {
	count := 0
	for id, err := range r.Sessions.OwnedBy(ctx, owner) {
		if err != nil {
			return err
		}
		stored, err := r.Sessions.Load(ctx, id)
		if err != nil || stored.Owner != owner {
			continue // archived, or claimed by somebody else meanwhile
		}
		epoch, err := r.Sessions.Claim(ctx, id, r.Peers.self, owner, stored.Epoch)
		if err != nil {
			continue
		}
		stored.Owner, stored.Epoch = r.Peers.self, epoch
		if err := r.Adopter.Adopt(ctx, stored); err != nil {
			return err
		}
		count++
	}
	if count > 0 {
		r.Log.WarnContext(ctx, "sessions of a dead instance were claimed", "instance", owner, "sessions", count)
	}
	return nil
}
