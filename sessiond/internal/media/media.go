// Package media is sessiond's way to the media servers: it finds the least
// loaded one, holds legs there, and hears what happens on them.
package media

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/registry"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// Service is the name under which media servers announce themselves.
const Service = "mediad"

// Listener hears of what happens on legs. Its methods must not block.
type Listener interface {
	// RTPTimedOut: nothing was received for so long.
	RTPTimedOut(session uuid.UUID, silence time.Duration)
	// LegLost: the leg is gone without our doing.
	LegLost(session uuid.UUID, detail string)
}

// Instances lists the live instances of a service.
type Instances interface {
	List(ctx context.Context, service string) ([]registry.Instance, error)
}

// Dialer reaches one instance.
type Dialer interface {
	Instance(address string) (*grpc.ClientConn, error)
	Forget(address string)
}

// Options are what a Pool needs.
type Options struct {
	Instances Instances
	Dialer    Dialer
	// Controller is this sessiond's instance name: events are sent to it.
	Controller string
	Listener   Listener
	Log        *slog.Logger
	// RTPTimeout ends calls without media; 0 = never.
	RTPTimeout time.Duration
}

// Pool is all media servers. Serve must run for events to arrive.
type Pool struct {
	o Options

	mu      sync.Mutex
	known   []registry.Instance
	turn    int
	servers map[string]*server
	ctx     context.Context
	wg      sync.WaitGroup
}

// New returns a pool.
func New(o Options) *Pool { return &Pool{o: o, servers: map[string]*server{}} }

// every is how often the list of instances is read.
const every = time.Second

// Serve follows the instances and their events until ctx ends.
func (p *Pool) Serve(ctx context.Context) error {
	p.mu.Lock()
	p.ctx = ctx
	for _, s := range p.servers {
		p.follow(ctx, s)
	}
	p.mu.Unlock()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		p.refresh(ctx)
		select {
		case <-ctx.Done():
			p.wg.Wait()
			return nil
		case <-tick.C:
		}
	}
}

// refresh reads the list. While Redis is away the last list stays in force.
func (p *Pool) refresh(ctx context.Context) {
	list, err := p.o.Instances.List(ctx, Service)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.known = list
	p.mu.Unlock()
}

// Count returns how many media servers are known.
func (p *Pool) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.known)
}

// byLoad returns the servers that take legs, the least loaded first. Between
// two readings of the list load is a guess, so equals take turns.
func (p *Pool) byLoad() []registry.Instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(p.known), func(i registry.Instance) bool { return i.Load.Draining })
	if len(list) > 1 {
		p.turn++
		n := p.turn % len(list)
		list = slices.Concat(list[n:], list[:n])
	}
	slices.SortStableFunc(list, func(a, b registry.Instance) int {
		// A tenth of the capacity is within what a second can change.
		return int(a.Load.Usage()*10) - int(b.Load.Usage()*10)
	})
	return list
}

// Open is what a new leg shall be.
type Open struct {
	Session, Participant uuid.UUID
	Leg                  string
	Grant                uint64
	Description          *mediapb.Description
	IPv6                 bool
}

// Opened is where the leg is held and where it is reached by RTP.
type Opened struct {
	Address   string
	LocalIP   string
	LocalPort uint16
}

// attempts bounds how many servers are asked for one leg.
const attempts = 3

// OpenLeg asks the least loaded server for a leg, and the next one if that is
// full or gone. It fails with PORTS_EXHAUSTED or UNAVAILABLE.
func (p *Pool) OpenLeg(ctx context.Context, o Open) (Opened, error) {
	list := p.byLoad()
	if len(list) == 0 {
		p.refresh(ctx)
		list = p.byLoad()
	}
	last := error(fault.New(fault.Unavailable, "no media server is available"))
	for _, instance := range list[:min(len(list), attempts)] {
		opened, err := p.openAt(ctx, instance.Address, o)
		if err == nil {
			return opened, nil
		}
		last = err
		if reason := fault.ReasonOf(err); reason != fault.PortsExhausted && reason != fault.Unavailable && reason != fault.Timeout {
			break
		}
	}
	return Opened{}, last
}

func (p *Pool) openAt(ctx context.Context, address string, o Open) (Opened, error) {
	s, err := p.server(address)
	if err != nil {
		return Opened{}, err
	}
	resp, err := s.client.CreateLeg(ctx, &mediapb.CreateLegRequest{
		LegId: o.Leg, SessionId: o.Session.String(), ParticipantId: o.Participant.String(), Controller: p.o.Controller,
		Grant: o.Grant, Description: o.Description, Ipv6: o.IPv6, RtpTimeout: durationpb.New(p.o.RTPTimeout),
	})
	if err != nil {
		if fault.ReasonOf(err) != fault.PortsExhausted {
			p.reclaim(s, o.Leg) // it may have been made all the same
		}
		return Opened{}, fmt.Errorf("leg at %s: %w", address, err)
	}
	// Only now: a watch that begins meanwhile would be told that it is unknown.
	s.hold(o.Leg, o.Session)
	return Opened{Address: address, LocalIP: resp.GetLocalAddress(), LocalPort: uint16(resp.GetLocalPort())}, nil
}

// UpdateLeg applies a new description to a leg.
func (p *Pool) UpdateLeg(ctx context.Context, address, leg string, d *mediapb.Description) error {
	s, err := p.server(address)
	if err != nil {
		return err
	}
	_, err = s.client.UpdateLeg(ctx, &mediapb.UpdateLegRequest{LegId: leg, Description: d})
	return err
}

// CloseLeg frees a leg and returns its figures. A leg that is gone already, or
// whose server is, counts as closed.
func (p *Pool) CloseLeg(ctx context.Context, address, leg string) (call.Statistics, error) {
	s, err := p.server(address)
	if err != nil {
		return call.Statistics{}, err
	}
	defer s.release(leg)
	resp, err := s.client.CloseLeg(ctx, &mediapb.CloseLegRequest{LegId: leg})
	if err == nil || fault.ReasonOf(err) == fault.LegNotFound {
		return statistics(resp.GetStatistics()), nil
	}
	p.reclaim(s, leg)
	return call.Statistics{}, err
}

// How often, and how many times, a leg whose end was not confirmed is closed
// again. A server that is gone by then has no legs.
const (
	reclaimEvery = 2 * time.Second
	reclaimTries = 10
)

// reclaim closes a leg that we may still hold at a server without knowing.
// mediad would keep it: our watch of its other legs goes on.
func (p *Pool) reclaim(s *server, leg string) {
	p.mu.Lock()
	ctx := p.ctx
	p.mu.Unlock()
	if ctx == nil || ctx.Err() != nil {
		return
	}
	p.wg.Go(func() {
		for range reclaimTries {
			trying, cancel := context.WithTimeout(ctx, reclaimEvery)
			_, err := s.client.CloseLeg(trying, &mediapb.CloseLegRequest{LegId: leg})
			if err == nil || fault.ReasonOf(err) == fault.LegNotFound {
				cancel()
				return
			}
			<-trying.Done()
			cancel()
			if ctx.Err() != nil {
				return
			}
		}
		p.o.Log.WarnContext(ctx, "a leg was not given back", "address", s.address, "leg", leg)
	})
}

// InjectDigit enters a digit that came by SIP INFO.
func (p *Pool) InjectDigit(ctx context.Context, address, leg, digit string, d time.Duration) error {
	s, err := p.server(address)
	if err != nil {
		return err
	}
	_, err = s.client.InjectDigit(ctx, &mediapb.InjectDigitRequest{LegId: leg, Digit: digit, Duration: durationpb.New(d)})
	return err
}

func statistics(s *mediapb.Statistics) call.Statistics {
	return call.Statistics{
		PacketsReceived: s.GetPacketsReceived(), PacketsLost: s.GetPacketsLost(), PacketsSent: s.GetPacketsSent(),
		RemotePacketsLost: s.GetRemotePacketsLost(), JitterMs: s.GetJitterMs(), RoundTripMs: s.GetRoundTripMs(),
		MOS: s.GetMos(), RemoteJitterMs: s.GetRemoteJitterMs(),
	}
}
