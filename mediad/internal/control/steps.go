package control

import (
	"context"
	"slices"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/leg"
)

// NewStep is a step whose clips are named, not held.
type NewStep struct {
	Leg        string
	Grant      uint64
	Controller string
	Step       leg.Step
	Playlist   []string
	Background string
}

// Run starts a step. When clips are missing nothing is started and they are
// returned.
func (m *Media) Run(ctx context.Context, n NewStep) (missing []string, err error) {
	held, missing := m.acquire(n)
	defer release(held)
	if len(missing) > 0 {
		return missing, nil
	}
	step := n.Step
	// The player lets go of clips one by one, so the list must be its own.
	step.Playlist = slices.Clone(held[:len(n.Playlist)])
	if n.Background != "" {
		step.Background = held[len(n.Playlist)]
	}
	err = m.encoded(ctx, n.Leg, func(l *leg.Leg, now time.Duration) (need, error) {
		// A grant newer than the leg's overtook its SetGrant on the way here.
		if err := l.SetGrant(n.Grant); err != nil {
			return need{}, err
		}
		if missing := unencoded(held, l.Codec()); len(missing) > 0 {
			return need{l.Codec(), missing}, nil
		}
		for _, c := range held {
			c.Hold() // the leg's; ours end with the request
		}
		l.Run(now, step)
		return need{}, nil
	})
	if err != nil {
		return nil, err
	}
	m.Hub.Attach(n.Leg, n.Controller)
	return nil, nil
}

// unencoded are the clips that have no encoding for cd.
func unencoded(held []*clip.Clip, cd *codec.Codec) (missing []leg.Encoder) {
	for _, c := range held {
		if c.Encoded(cd) == nil {
			missing = append(missing, c)
		}
	}
	return missing
}

// acquire holds the step's clips, the background last.
func (m *Media) acquire(n NewStep) (held []*clip.Clip, missing []string) {
	ids := n.Playlist
	if n.Background != "" {
		ids = append(slices.Clone(ids), n.Background)
	}
	for _, id := range ids {
		c, ok := m.Clips.Acquire(id)
		if !ok {
			if !slices.Contains(missing, id) {
				missing = append(missing, id)
			}
			continue
		}
		held = append(held, c)
	}
	return held, missing
}

func release(held []*clip.Clip) {
	for _, c := range held {
		c.Release()
	}
}

// Stop ends the running step; false when it was not running any more.
func (m *Media) Stop(ctx context.Context, id string, grant uint64, step string) (bool, error) {
	stopped := make(chan bool, 1)
	err := m.do(ctx, id, func(l *leg.Leg, _ time.Duration) error {
		if grant < l.Grant {
			return leg.ErrStaleGrant
		}
		stopped <- l.Stop(step)
		return nil
	})
	if err != nil {
		return false, err
	}
	return <-stopped, nil
}
