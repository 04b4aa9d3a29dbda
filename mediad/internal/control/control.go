// Package control is the instance's memory of its legs: which shard has which
// leg behind which ports, and the way commands take to them. It does on the
// caller's goroutine whatever may block or allocate, binding ports and
// encoding clips, and leaves only the change itself to the shard.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/mediad/internal/clip"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/engine"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/ports"
	"github.com/callmesh/callmesh/mediad/internal/shard"
	"github.com/callmesh/callmesh/mediad/internal/watch"
)

// Address is one IP to bind and the one to put into SDP for it.
type Address struct {
	Listen, Advertise netip.Addr
}

// Options are all required but IPv6.
type Options struct {
	Shards []*shard.Shard
	Ports  *ports.Allocator
	Clips  *clip.Store
	Codecs *codec.Registry
	Hub    *watch.Hub
	Log    *slog.Logger
	// IPv4 and IPv6 are the media addresses; one may be missing.
	IPv4, IPv6 *Address
	// Relatch, RTPTimeout, Unlatched: see leg.Config; RTPTimeout is for legs that ask for none.
	Relatch    time.Duration
	RTPTimeout time.Duration
	Unlatched  time.Duration
	// Unattended legs are closed after this long.
	Unattended time.Duration
	// Epoch is the wall clock at the shards' time 0.
	Epoch time.Time
}

// Media holds the legs of an instance.
type Media struct {
	Options
	draining atomic.Bool

	mu       sync.Mutex
	legs     map[string]*handle
	sessions map[string]int // legs of each session
	loads    map[*shard.Shard]int
	emptied  chan struct{} // closed and replaced when the last leg goes
}

// handle is a leg's place. ready is closed once created says how it went.
type handle struct {
	session  string
	shard    *shard.Shard
	leg      *leg.Leg
	endpoint engine.Endpoint
	local    netip.AddrPort
	port     uint16
	ready    chan struct{}
	created  error
	closing  bool
}

// New makes an instance without legs.
func New(o Options) *Media {
	return &Media{
		Options: o, legs: map[string]*handle{}, sessions: map[string]int{},
		loads: map[*shard.Shard]int{}, emptied: make(chan struct{}),
	}
}

func notFound(id string) error {
	return fault.New(fault.LegNotFound, "leg %s is not here", id).On("leg_id")
}

// find returns a leg that is up.
func (m *Media) find(ctx context.Context, id string) (*handle, error) {
	m.mu.Lock()
	h := m.legs[id]
	m.mu.Unlock()
	if h == nil {
		return nil, notFound(id)
	}
	select {
	case <-h.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.created != nil {
		return nil, notFound(id)
	}
	return h, nil
}

// do runs apply on the leg's shard.
func (m *Media) do(ctx context.Context, id string, apply func(l *leg.Leg, now time.Duration) error) error {
	h, err := m.find(ctx, id)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	err = h.shard.Do(ctx, func(now time.Duration) {
		if h.leg.Closed() {
			result <- notFound(id)
			return
		}
		result <- apply(h.leg, now)
	})
	if err != nil {
		return gone(err)
	}
	return faultOf(<-result)
}

// gone says what a shard's refusal means to a caller.
func gone(err error) error {
	switch {
	case errors.Is(err, shard.ErrClosed):
		return fault.New(fault.Unavailable, "this media server is going down").Because(err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.New(fault.Timeout, "the media server did not get to it in time").Because(err)
	}
	return err
}

// faultOf gives the leg's errors their reasons.
func faultOf(err error) error {
	switch {
	case errors.Is(err, leg.ErrStaleGrant):
		return fault.New(fault.StaleGrant, "%v", leg.ErrStaleGrant).On("grant").Because(err)
	case errors.Is(err, leg.ErrNoEvents), errors.Is(err, leg.ErrKeyQueue):
		return fault.New(fault.BadRequest, "%v", err).On("digits")
	}
	return err
}

// Load is the number of legs, for the registry.
func (m *Media) Load() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.legs)
}

// Draining tells whether new legs are refused.
func (m *Media) Draining() bool { return m.draining.Load() }

// calmest shard, by legs. Called under the lock.
func (m *Media) calmest() *shard.Shard {
	return slices.MinFunc(m.Shards, func(a, b *shard.Shard) int { return cmp.Compare(m.loads[a], m.loads[b]) })
}

// address to use for a leg.
func (m *Media) address(ipv6 bool) (*Address, error) {
	a, field := m.IPv4, "ipv6"
	if ipv6 {
		a = m.IPv6
	}
	if a == nil {
		return nil, fault.New(fault.BadRequest, "this media server has no address of that family").On(field)
	}
	return a, nil
}

// Drain refuses new legs and waits for the others to be closed.
func (m *Media) Drain(ctx context.Context) error {
	m.draining.Store(true)
	for {
		m.mu.Lock()
		n, emptied := len(m.legs), m.emptied
		m.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-emptied:
		case <-ctx.Done():
			m.closeAll(ctx)
			return fmt.Errorf("%d legs were still up: %w", n, ctx.Err())
		}
	}
}

// closeAll ends the legs that outlived the grace period.
func (m *Media) closeAll(ctx context.Context) {
	m.mu.Lock()
	ids := make([]string, 0, len(m.legs))
	for id := range m.legs {
		ids = append(ids, id)
	}
	m.mu.Unlock()
	for _, id := range ids {
		if _, err := m.close(ctx, id, "media server is going down"); err != nil {
			m.Log.ErrorContext(ctx, "leg not closed", "leg", id, "err", err)
		}
	}
}

// Reap closes legs without a controller until ctx ends.
func (m *Media) Reap(ctx context.Context) error {
	ticker := time.NewTicker(min(m.Unattended/4+time.Millisecond, time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, id := range m.Hub.Unattended(m.Unattended) {
			m.Log.WarnContext(ctx, "leg has no controller, closing it", "leg", id)
			if _, err := m.close(ctx, id, "no controller watched the leg"); err != nil {
				m.Log.ErrorContext(ctx, "leg not closed", "leg", id, "err", err)
			}
		}
	}
}
