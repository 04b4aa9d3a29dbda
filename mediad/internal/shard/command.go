package shard

import (
	"context"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/engine"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/packet"
)

// command is applied between ticks and acknowledged when the turn that
// applied it has sent its batch.
type command struct {
	apply func(now time.Duration)
	done  chan struct{}
}

// Do runs apply on the loop and returns once its turn is over. When ctx ends
// first, apply may still run later: it must not touch what its caller owns.
func (s *Shard) Do(ctx context.Context, apply func(now time.Duration)) error {
	c := &command{apply: apply, done: make(chan struct{})}
	select {
	case <-s.closed: // the queue may have room all the same
		return ErrClosed
	default:
	}
	select {
	case s.commands <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return ErrClosed
	}
	s.engine.Wake()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return ErrClosed
	}
}

// applyCommands takes no more than were waiting when it began.
func (s *Shard) applyCommands() {
	for range len(s.commands) {
		c := <-s.commands
		c.apply(s.now())
		s.applied = append(s.applied, c)
	}
}

func (s *Shard) acknowledge() {
	for i, c := range s.applied {
		close(c.done)
		s.applied[i] = nil
	}
	s.applied = s.applied[:0]
}

// Add starts a leg behind an open endpoint. configure fills in what only the
// caller knows; flow, counters and events are the shard's.
func (s *Shard) Add(ctx context.Context, endpoint engine.Endpoint, cfg leg.Config, d leg.Description) (*leg.Leg, error) {
	type result struct {
		leg *leg.Leg
		err error
	}
	results := make(chan result, 1)
	err := s.Do(ctx, func(now time.Duration) {
		l, err := s.add(now, endpoint, cfg, d)
		results <- result{l, err}
	})
	if err != nil {
		return nil, err
	}
	r := <-results
	return r.leg, r.err
}

func (s *Shard) add(now time.Duration, endpoint engine.Endpoint, cfg leg.Config, d leg.Description) (*leg.Leg, error) {
	flow := s.lease()
	if err := s.engine.Attach(flow, endpoint); err != nil {
		s.engine.Detach(flow)
		s.free = append(s.free, flow)
		return nil, err
	}
	cfg.Flow, cfg.Counters, cfg.Events = flow, &s.counters, s
	l := leg.New(now, cfg, d)
	phase := s.calmest()
	s.phases[phase] = append(s.phases[phase], l)
	s.legs[flow] = slot{leg: l, phase: phase}
	return l, nil
}

func (s *Shard) lease() packet.Flow {
	if n := len(s.free); n > 0 {
		flow := s.free[n-1]
		s.free = s.free[:n-1]
		return flow
	}
	s.legs = append(s.legs, slot{})
	return packet.Flow(len(s.legs) - 1)
}

// calmest is the phase with the fewest legs.
func (s *Shard) calmest() int {
	best := 0
	for i := range s.phases {
		if len(s.phases[i]) < len(s.phases[best]) {
			best = i
		}
	}
	return best
}

// Remove closes a leg and returns its final figures. Its endpoint is detached
// and the caller's to close. last is published after the leg's own events.
func (s *Shard) Remove(ctx context.Context, l *leg.Leg, last *leg.Event) (leg.Statistics, error) {
	results := make(chan leg.Statistics, 1)
	err := s.Do(ctx, func(now time.Duration) {
		if s.out.Room() < perTick {
			s.flush()
		}
		l.Close(now, s.out)
		s.flush()
		s.engine.Detach(l.Flow)
		s.drop(l)
		s.Emit(last)
		results <- l.Statistics()
	})
	if err != nil {
		return leg.Statistics{}, err
	}
	return <-results, nil
}

func (s *Shard) drop(l *leg.Leg) {
	at := &s.legs[l.Flow]
	legs := s.phases[at.phase]
	for i := range legs {
		if legs[i] == l {
			last := len(legs) - 1
			legs[i], legs[last] = legs[last], nil
			s.phases[at.phase] = legs[:last]
			break
		}
	}
	*at = slot{}
	s.free = append(s.free, l.Flow)
}
