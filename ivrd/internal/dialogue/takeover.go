package dialogue

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/kit/partition"
)

const (
	// released owns the dialogues that a draining instance gave up: nobody is
	// called that, so that anybody takes them at the next sweep.
	released = "released"
	// batch is how many dialogues are claimed before their legs are attached, in
	// one stream request for each mediad.
	batch = 200
)

// Serve looks for dialogues of dead instances until ctx ends.
func (s *Service) Serve(ctx context.Context) error {
	tick := time.NewTicker(s.limits.Sweep)
	defer tick.Stop()
	var suspects map[string]bool
	blind := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		s.endLate(ctx)
		if s.isDraining() {
			continue
		}
		next, err := s.sweep(ctx, suspects)
		if err == nil {
			suspects = next
		} else if !blind && ctx.Err() == nil {
			s.log.WarnContext(ctx, "dead instances cannot be looked for", "err", err)
		}
		blind = err != nil
	}
}

func (s *Service) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// sweep claims what belongs to instances that were dead at the last sweep too:
// one that has just started may own dialogues before its first heartbeat.
func (s *Service) sweep(ctx context.Context, suspects map[string]bool) (dead map[string]bool, err error) {
	// Owners before heartbeats: the other way round, an instance that starts in
	// between would look dead.
	owned, err := s.store.Owners(ctx)
	if err != nil {
		return nil, err
	}
	live, err := s.live(ctx)
	if err != nil {
		return nil, err
	}
	dead = map[string]bool{}
	for _, o := range owned {
		if o.Owner == s.instance || live[o.Owner] {
			continue
		}
		dead[o.Owner] = true
		if suspects[o.Owner] || o.Owner == released {
			if err := s.claimAll(ctx, o); err != nil {
				return dead, err
			}
		}
	}
	return dead, nil
}

// claimAll takes over the dialogues of a dead owner in one partition. Another
// instance may be at it too: each dialogue goes to one of them.
func (s *Service) claimAll(ctx context.Context, o cursor.Owned) error {
	for !s.isDraining() {
		participants, err := s.store.List(ctx, o, batch)
		if err != nil {
			return err
		}
		if len(participants) == 0 {
			return nil
		}
		var claimed []*dialogue
		for _, participant := range participants {
			d, err := s.claim(ctx, participant, o.Owner)
			switch {
			case errors.Is(err, cursor.ErrEpoch), errors.Is(err, cursor.ErrNone):
			case err != nil:
				s.log.WarnContext(ctx, "dialogue cannot be taken over", "participant", participant, "err", err)
				return err
			default:
				claimed = append(claimed, d)
			}
		}
		s.resume(claimed)
	}
	return nil
}

func (s *Service) claim(ctx context.Context, participant, former string) (*dialogue, error) {
	id, err := partition.ParseID(participant)
	if err != nil {
		return nil, err
	}
	c, err := s.store.Claim(ctx, participant, former, s.instance, s.address())
	if err != nil {
		return nil, err
	}
	d := s.adopt(id, c, true)
	s.metrics.takeovers.Inc()
	d.log.InfoContext(ctx, "dialogue taken over", "participant", participant, "from", former, "place", string(c.State.Place))
	return d, nil
}

// resume attaches the legs, one request a mediad, and lets the dialogues go on.
// A mediad that is gone as well fails its dialogues by itself.
func (s *Service) resume(claimed []*dialogue) {
	byAddress := map[string][]*dialogue{}
	for _, d := range claimed {
		byAddress[d.leg().Address] = append(byAddress[d.leg().Address], d)
	}
	for address, dialogues := range byAddress {
		s.spawn(func() {
			ctx, cancel := context.WithTimeout(s.base, s.limits.Patience)
			defer cancel()
			if err := s.media.Attach(ctx, address); err != nil && s.base.Err() == nil {
				s.log.WarnContext(ctx, "legs could not be attached", "address", address, "err", err)
			}
			for _, d := range dialogues {
				d.resume()
			}
		})
	}
}

// takeOver claims one dialogue that is wanted now.
func (s *Service) takeOver(ctx context.Context, id uuid.UUID, c cursor.Cursor) (*dialogue, error) {
	d, err := s.claim(ctx, c.Dialogue.Participant, c.Owner)
	if errors.Is(err, cursor.ErrEpoch) {
		// Another call, here or elsewhere, was first.
		if d := s.local(id); d != nil {
			return d, nil
		}
		return nil, cursor.ErrNone
	}
	if err != nil {
		return nil, err
	}
	s.resume([]*dialogue{d})
	return d, nil
}

// endLate writes the ends that could not be written when they came.
func (s *Service) endLate(ctx context.Context) {
	s.mu.Lock()
	var late []cursor.Cursor
	for _, c := range s.unended {
		late = append(late, c)
	}
	s.mu.Unlock()
	for _, c := range late {
		err := s.store.End(ctx, c)
		if err != nil && !errors.Is(err, cursor.ErrEpoch) && !errors.Is(err, cursor.ErrNone) {
			return
		}
		if id, err := partition.ParseID(c.Dialogue.Participant); err == nil {
			s.mu.Lock()
			delete(s.unended, id)
			s.mu.Unlock()
		}
	}
}

// Drain takes no new dialogues, gives those at rest to other instances if there
// are any, waits for the rest until ctx ends, and then stops all work. What is
// left stays where it was saved, for the next instance.
func (s *Service) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	if len(s.dialogues) == 0 {
		s.closeEmpty()
	}
	s.mu.Unlock()

	tick := time.NewTicker(s.limits.Sweep)
	defer tick.Stop()
	for waiting := true; waiting; {
		if s.active() > 0 && s.hasPeer(ctx) {
			s.leave()
		}
		select {
		case <-s.empty:
			waiting = false
		case <-tick.C:
		case <-ctx.Done():
			waiting = false
		}
	}
	if n := s.active(); n > 0 {
		s.log.WarnContext(ctx, "dialogues left for the next instance", "dialogues", n)
	}
	s.halt()
	return nil
}

// halt ends all work and waits for it.
func (s *Service) halt() {
	s.mu.Lock()
	s.stopped = true
	all := s.all()
	s.mu.Unlock()
	s.cancel()
	for _, d := range all {
		d.quit()
	}
	s.wg.Wait()
}

// all returns the dialogues; the caller holds the lock.
func (s *Service) all() []*dialogue {
	all := make([]*dialogue, 0, len(s.dialogues))
	for _, d := range s.dialogues {
		all = append(all, d)
	}
	return all
}

// hasPeer tells whether somebody would take dialogues over.
func (s *Service) hasPeer(ctx context.Context) bool {
	instances, err := s.peers.List(ctx, ServiceName)
	if err != nil {
		return false
	}
	for _, i := range instances {
		if i.Name != s.instance && !i.Load.Draining {
			return true
		}
	}
	return false
}

// leave gives away the dialogues at rest at once, and the others when they come
// to rest.
func (s *Service) leave() {
	s.mu.Lock()
	all := s.all()
	s.mu.Unlock()
	for _, d := range all {
		d.mu.Lock()
		d.leaving = true
		atRest := d.idle == nil && !d.over
		d.mu.Unlock()
		if atRest {
			s.giveAway(d)
		}
	}
}

// giveAway releases a dialogue that waits for its leg. One that has work again
// is released when that is done.
func (s *Service) giveAway(d *dialogue) {
	d.mu.Lock()
	if d.over || d.idle != nil {
		d.mu.Unlock()
		return
	}
	d.quitLocked()
	last := d.cursor
	d.mu.Unlock()

	ctx, cancel := context.WithTimeout(s.base, saveTimeout)
	defer cancel()
	if _, err := s.store.Claim(ctx, last.Dialogue.Participant, s.instance, released, ""); err != nil &&
		!errors.Is(err, cursor.ErrEpoch) && !errors.Is(err, cursor.ErrNone) {
		d.log.WarnContext(ctx, "dialogue not released; it moves when this instance is gone", "err", err)
	}
	s.remove(d)
}
