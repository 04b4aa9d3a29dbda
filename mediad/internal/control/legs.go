package control

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/mediad/internal/codec"
	"github.com/callmesh/callmesh/mediad/internal/engine"
	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/ports"
	"github.com/callmesh/callmesh/mediad/internal/shard"
	"github.com/callmesh/callmesh/mediad/internal/watch"
)

// NewLeg says what leg to create.
type NewLeg struct {
	Identity    leg.Identity
	Controller  string
	Grant       uint64
	Description leg.Description
	IPv6        bool
	// RTPTimeout of 0 means never; DefaultRTPTimeout takes the instance's.
	RTPTimeout time.Duration
}

// DefaultRTPTimeout stands for what the instance is configured with.
const DefaultRTPTimeout time.Duration = -1

// bindAttempts bounds how many pairs are tried when other programs hold ports
// of our range.
const bindAttempts = 32

// Create makes a leg and returns its address for SDP. A leg that exists under
// the id is returned as it is: the request was repeated.
func (m *Media) Create(ctx context.Context, n NewLeg) (netip.AddrPort, error) {
	if m.draining.Load() {
		return netip.AddrPort{}, fault.New(fault.Unavailable, "this media server is going down")
	}
	id := n.Identity.Leg
	m.mu.Lock()
	if have := m.legs[id]; have != nil {
		m.mu.Unlock()
		h, err := m.find(ctx, id)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return h.local, nil
	}
	h := &handle{session: n.Identity.Session, shard: m.calmest(), ready: make(chan struct{})}
	established := m.sessions[h.session] > 0
	m.legs[id] = h
	m.sessions[h.session]++
	m.loads[h.shard]++
	m.mu.Unlock()

	// Once begun it is finished, whether or not the caller waits: a half-made
	// leg would be nobody's.
	h.created = m.create(context.WithoutCancel(ctx), h, n, established)
	close(h.ready)
	if h.created != nil {
		m.forget(id, h)
		return netip.AddrPort{}, h.created
	}
	return h.local, nil
}

func (m *Media) create(ctx context.Context, h *handle, n NewLeg, established bool) error {
	address, err := m.address(n.IPv6)
	if err != nil {
		return err
	}
	h.endpoint, h.port, err = m.bind(ctx, h.shard, address.Listen, established)
	if err != nil {
		return err
	}
	h.local = netip.AddrPortFrom(address.Advertise, h.port)
	m.Hub.Add(watch.Identity(n.Identity), n.Controller)
	timeout := n.RTPTimeout
	if timeout == DefaultRTPTimeout {
		timeout = m.RTPTimeout
	}
	h.leg, err = h.shard.Add(ctx, h.endpoint, leg.Config{
		Identity: n.Identity, Grant: n.Grant, RTPTimeout: timeout, Relatch: m.Relatch, Unlatched: m.Unlatched, Epoch: m.Epoch,
		Random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
	}, n.Description)
	if err != nil {
		m.Hub.Remove(n.Identity.Leg)
		h.endpoint.Close()
		m.Ports.Release(h.port)
		return gone(err)
	}
	return nil
}

// bind leases a pair and opens it. A pair that another program has rests in
// quarantine and is tried again later.
func (m *Media) bind(ctx context.Context, s *shard.Shard, addr netip.Addr, established bool) (engine.Endpoint, uint16, error) {
	for range bindAttempts {
		port, err := m.Ports.Lease(established)
		if errors.Is(err, ports.ErrExhausted) {
			return nil, 0, fault.New(fault.PortsExhausted, "no RTP ports are free").Because(err)
		}
		if err != nil {
			return nil, 0, err
		}
		endpoint, err := s.Open(addr, port)
		if err == nil {
			return endpoint, port, nil
		}
		m.Ports.Release(port)
		switch {
		case errors.Is(err, engine.ErrPortBusy):
		case errors.Is(err, engine.ErrNoSockets):
			m.Log.ErrorContext(ctx, "no socket for a leg", "err", err)
			return nil, 0, fault.New(fault.Unavailable, "this media server is full").Because(err)
		default:
			return nil, 0, err
		}
	}
	return nil, 0, fault.New(fault.PortsExhausted, "other programs hold the RTP ports")
}

// Check binds a pair of ports at each address and lets it go, so that an
// address that is not this machine's is found at start and not by a caller.
func (m *Media) Check(ctx context.Context) error {
	for field, a := range map[string]*Address{"media.listen": m.IPv4, "media.listen6": m.IPv6} {
		if a == nil {
			continue
		}
		endpoint, port, err := m.bind(ctx, m.Shards[0], a.Listen, true)
		if err != nil {
			return fmt.Errorf("%s: %w", field, err)
		}
		endpoint.Close()
		m.Ports.Release(port)
	}
	return nil
}

// forget takes a leg out of the maps.
func (m *Media) forget(id string, h *handle) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.legs[id] != h {
		return
	}
	delete(m.legs, id)
	m.loads[h.shard]--
	if m.sessions[h.session]--; m.sessions[h.session] == 0 {
		delete(m.sessions, h.session)
	}
	if len(m.legs) == 0 {
		close(m.emptied)
		m.emptied = make(chan struct{})
	}
}

// Close ends a leg; ok is false when it is not here.
func (m *Media) Close(ctx context.Context, id string) (figures leg.Statistics, ok bool, err error) {
	figures, err = m.close(ctx, id, "")
	if errors.Is(err, fault.New(fault.LegNotFound, "")) {
		return leg.Statistics{}, false, nil
	}
	return figures, err == nil, err
}

// close ends a leg whether or not the caller stays: ports must come back. lost
// is told to its controllers, unless one of them asked for it.
func (m *Media) close(ctx context.Context, id, lost string) (leg.Statistics, error) {
	ctx = context.WithoutCancel(ctx)
	h, err := m.find(ctx, id)
	if err != nil {
		return leg.Statistics{}, err
	}
	m.mu.Lock()
	closing := h.closing
	h.closing = true
	m.mu.Unlock()
	if closing {
		return leg.Statistics{}, notFound(id)
	}
	figures, err := h.shard.Remove(ctx, h.leg, &leg.Event{Of: &h.leg.Identity, Kind: leg.Closed, Lost: lost})
	if err != nil && !errors.Is(err, shard.ErrClosed) {
		return leg.Statistics{}, err
	}
	h.endpoint.Close()
	m.Ports.Release(h.port)
	m.forget(id, h)
	return figures, gone(err)
}

// Update applies a new description.
func (m *Media) Update(ctx context.Context, id string, d leg.Description) error {
	return m.encoded(ctx, id, func(l *leg.Leg, now time.Duration) (need, error) {
		cd := d.Codecs[0].Codec
		if missing := l.Missing(cd); len(missing) > 0 {
			return need{cd, missing}, nil
		}
		l.Describe(now, d)
		return need{}, nil
	})
}

// need is what must be encoded before a change can be made.
type need struct {
	codec *codec.Codec
	clips []leg.Encoder
}

// encoded applies a change that needs clips in the codec it leads to. apply
// returns what is missing instead of changing anything; that is encoded here,
// off the loop, and apply asked again. Two rounds are the rule, more only when
// steps and descriptions change under our hands.
func (m *Media) encoded(ctx context.Context, id string, apply func(*leg.Leg, time.Duration) (need, error)) error {
	for {
		needs := make(chan need, 1)
		err := m.do(ctx, id, func(l *leg.Leg, now time.Duration) error {
			n, err := apply(l, now)
			needs <- n
			return err
		})
		if err != nil {
			return err
		}
		n := <-needs
		if len(n.clips) == 0 {
			return nil
		}
		for _, c := range n.clips {
			c.Encode(n.codec)
		}
	}
}

// SetGrant changes who commands a leg.
func (m *Media) SetGrant(ctx context.Context, id string, grant uint64) error {
	return m.do(ctx, id, func(l *leg.Leg, _ time.Duration) error { return l.SetGrant(grant) })
}

// Inject enters a digit that came by signalling.
func (m *Media) Inject(ctx context.Context, id string, key byte) error {
	return m.do(ctx, id, func(l *leg.Leg, now time.Duration) error {
		l.Inject(now, key)
		return nil
	})
}

// SendKeys sends DTMF to the far end.
func (m *Media) SendKeys(ctx context.Context, id, keys string, duration, pause time.Duration) error {
	return m.do(ctx, id, func(l *leg.Leg, _ time.Duration) error { return l.SendKeys(keys, duration, pause) })
}

// State of a leg.
type State struct {
	Statistics leg.Statistics
	Grant      uint64
	Step       string
}

// Get reads a leg's state.
func (m *Media) Get(ctx context.Context, id string) (State, error) {
	states := make(chan State, 1)
	err := m.do(ctx, id, func(l *leg.Leg, _ time.Duration) error {
		states <- State{Statistics: l.Statistics(), Grant: l.Grant, Step: l.Running()}
		return nil
	})
	if err != nil {
		return State{}, err
	}
	return <-states, nil
}
