package media

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// server is one media server and the legs that we hold there.
type server struct {
	address   string
	client    mediapb.MediaClient
	following bool

	mu   sync.Mutex
	legs map[string]*leg
}

type leg struct {
	session uuid.UUID
	seen    uint64
}

func (s *server) hold(id string, session uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.legs[id] = &leg{session: session}
}

func (s *server) release(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.legs, id)
}

// see notes an event and returns whose leg it is about; ok is false for events
// that were seen before and for legs that are not ours.
func (s *server) see(id string, sequence uint64) (session uuid.UUID, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.legs[id]
	if l == nil || (sequence != 0 && sequence <= l.seen) {
		return uuid.Nil, false
	}
	l.seen = max(l.seen, sequence)
	return l.session, true
}

func (s *server) cursors() []*mediapb.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*mediapb.Cursor, 0, len(s.legs))
	for id, l := range s.legs {
		out = append(out, &mediapb.Cursor{LegId: id, Sequence: l.seen})
	}
	return out
}

func (s *server) takeAll() map[string]*leg {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.legs
	s.legs = map[string]*leg{}
	return all
}

func (p *Pool) server(address string) (*server, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.servers[address]; s != nil {
		return s, nil
	}
	conn, err := p.o.Dialer.Instance(address)
	if err != nil {
		return nil, err
	}
	s := &server{address: address, client: mediapb.NewMediaClient(conn), legs: map[string]*leg{}}
	p.servers[address] = s
	if p.ctx != nil {
		p.follow(p.ctx, s)
	}
	return s, nil
}

// follow starts hearing the server's events; p.mu is held.
func (p *Pool) follow(ctx context.Context, s *server) {
	if s.following || ctx.Err() != nil {
		return
	}
	s.following = true
	p.wg.Go(func() { p.watch(ctx, s) })
}

const (
	// patience is how long a server may be out of reach before its legs count
	// as lost: longer than a network hiccup, shorter than a caller's.
	patience = 5 * time.Second
	pause    = 200 * time.Millisecond
)

// watch hears a server's events until ctx ends or the server is given up.
func (p *Pool) watch(ctx context.Context, s *server) {
	heard := time.Now()
	for ctx.Err() == nil {
		if p.stream(ctx, s) {
			heard = time.Now()
		}
		if time.Since(heard) > patience && !p.announced(s.address) {
			p.giveUp(s)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (p *Pool) announced(address string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.known {
		if i.Address == address {
			return true
		}
	}
	return false
}

// giveUp declares a server dead, with all legs that it held for us.
func (p *Pool) giveUp(s *server) {
	p.mu.Lock()
	delete(p.servers, s.address)
	p.mu.Unlock()
	p.o.Dialer.Forget(s.address)
	lost := s.takeAll()
	if len(lost) > 0 {
		p.o.Log.Warn("media server lost", "address", s.address, "legs", len(lost))
	}
	for _, l := range lost {
		p.o.Listener.LegLost(l.session, "the media server was lost")
	}
}

// stream hears events over one stream until it breaks, and tells whether it
// was ever in force.
func (p *Pool) stream(ctx context.Context, s *server) (ready bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := s.client.Watch(ctx, &mediapb.WatchRequest{Controller: p.o.Controller, Cursors: s.cursors()})
	if err != nil {
		return false
	}
	for {
		ev, err := events.Recv()
		if err != nil {
			return ready
		}
		ready = true
		p.hear(s, ev)
	}
}

func (p *Pool) hear(s *server, ev *mediapb.WatchResponse) {
	if r := ev.GetReady(); r != nil {
		// The server restarted under its old address, and forgot these.
		for _, id := range r.GetUnknownLegs() {
			if session, ok := s.see(id, 0); ok {
				s.release(id)
				p.o.Listener.LegLost(session, "the media server was restarted")
			}
		}
		return
	}
	session, ok := s.see(ev.GetLegId(), ev.GetSequence())
	if !ok {
		return
	}
	switch {
	case ev.GetRtpTimeout() != nil:
		p.o.Listener.RTPTimedOut(session, ev.GetRtpTimeout().GetSilence().AsDuration())
	case ev.GetLegLost() != nil:
		s.release(ev.GetLegId())
		p.o.Listener.LegLost(session, ev.GetLegLost().GetReason())
	}
}
