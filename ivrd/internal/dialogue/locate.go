package dialogue

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/partition"
)

// locate returns the dialogue if it is, or has to be, this instance's; else the
// cursor of one that another live instance runs.
func (s *Service) locate(ctx context.Context, participant string, forwarded bool) (*dialogue, cursor.Cursor, error) {
	id, err := partition.ParseID(participant)
	if err != nil {
		return nil, cursor.Cursor{}, fault.New(fault.BadRequest, "participant_id is not a UUID").On("participant_id")
	}
	d, err := s.settled(ctx, id)
	if d != nil || err != nil {
		return d, cursor.Cursor{}, err
	}
	c, err := s.store.Load(ctx, participant)
	switch {
	case errors.Is(err, cursor.ErrNone), err == nil && (c.Over || c.Owner == s.instance):
		return nil, cursor.Cursor{}, cursor.ErrNone
	case err != nil:
		return nil, cursor.Cursor{}, fault.New(fault.Unavailable, "dialogues cannot be looked up now").Because(err)
	}
	live, err := s.live(ctx)
	if err != nil {
		return nil, cursor.Cursor{}, fault.New(fault.Unavailable, "dialogues cannot be looked up now").Because(err)
	}
	if live[c.Owner] {
		if forwarded {
			return nil, cursor.Cursor{}, fault.New(fault.Unavailable, "the dialogue is changing its instance")
		}
		return nil, c, nil
	}
	d, err = s.takeOver(ctx, id, c)
	return d, cursor.Cursor{}, err
}

// settled returns the dialogue here, nil for none, once no start is under way.
func (s *Service) settled(ctx context.Context, id uuid.UUID) (*dialogue, error) {
	s.mu.Lock()
	busy := s.starting[id]
	s.mu.Unlock()
	if busy != nil {
		if err := wait(ctx, busy); err != nil {
			return nil, err
		}
	}
	return s.local(id), nil
}

func (s *Service) local(id uuid.UUID) *dialogue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialogues[id]
}

// reserve keeps other requests about the participant waiting until the function
// that it returns is called.
func (s *Service) reserve(ctx context.Context, id uuid.UUID) (done func(), err error) {
	for {
		s.mu.Lock()
		busy := s.starting[id]
		switch {
		case busy != nil:
			s.mu.Unlock()
			if err := wait(ctx, busy); err != nil {
				return nil, err
			}
			continue
		case s.draining:
			s.mu.Unlock()
			return nil, fault.New(fault.Unavailable, "this instance takes no new dialogues")
		case len(s.dialogues)+len(s.starting) >= s.limits.Dialogues:
			s.mu.Unlock()
			return nil, fault.New(fault.Unavailable, "this instance has as many dialogues as it may")
		}
		s.starting[id] = make(chan struct{})
		s.mu.Unlock()
		return func() { s.unreserve(id) }, nil
	}
}

func (s *Service) unreserve(id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.starting[id])
	delete(s.starting, id)
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Timeout, "the dialogue is still starting").Because(ctx.Err())
	}
}

// live returns the names of the live instances.
func (s *Service) live(ctx context.Context) (map[string]bool, error) {
	instances, err := s.peers.List(ctx, ServiceName)
	if err != nil {
		return nil, fmt.Errorf("dialogue: %w", err)
	}
	live := make(map[string]bool, len(instances))
	for _, i := range instances {
		live[i.Name] = true
	}
	return live, nil
}
