package ua

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/emiago/sipgo/sip"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// relayKey names a 2xx that this instance retransmits for another.
type relayKey struct {
	leg LegRef
	seq uint32
}

// relays are the 2xx to re-INVITEs of other instances' dialogs: whoever has the
// transaction repeats its answer.
type relays struct {
	mu     sync.Mutex
	closed bool
	open   map[relayKey]*confirmation
}

func (s *relays) start(k relayKey, c *confirmation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if s.open == nil {
		s.open = make(map[relayKey]*confirmation)
	}
	s.open[k] = c
	c.start()
}

func (s *relays) end(k relayKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.open[k]; c != nil {
		c.stop()
		delete(s.open, k)
	}
}

func (s *relays) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, c := range s.open {
		c.stop()
	}
	s.open = nil
}

// sendOn gives a message to its owner and parses the answer; nil if it gave none.
func (u *UA) sendOn(ctx context.Context, r *request, owner string) (*sip.Response, error) {
	u.m.forwarded.WithLabelValues(methodLabel(r.method)).Inc()
	raw, err := u.forward(ctx, owner, r.raw, r.flow.transport, r.flow.remote.String(), r.flow.local.String())
	if err != nil {
		return nil, fmt.Errorf("ua: forward to %s: %w", owner, err)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	m, err := header.Scan(raw)
	if err != nil {
		return nil, fmt.Errorf("ua: answer of %s: %w", owner, err)
	}
	return asResponse(m)
}

// relay has a request of a dialog served by its owner and answers as that does.
func (u *UA) relay(ctx context.Context, r *request, t *txn, ref LegRef, owner string) {
	if r.relayed || u.forward == nil {
		// Never in a circle: two instances that name each other are both wrong.
		u.finish(r, t, 503, "Service Unavailable", retryAfter)
		return
	}
	res, err := u.sendOn(ctx, r, owner)
	if err != nil || res == nil {
		u.log.WarnContext(ctx, "request not forwarded", "method", r.method, "instance", owner, "err", err)
		u.finish(r, t, 503, "Service Unavailable", retryAfter)
		return
	}
	if r.method == "INVITE" && res.IsSuccess() {
		seq, _, _ := r.m.CSeq()
		k := relayKey{ref, seq}
		c := u.confirmation(ref, r, seq, res)
		c.timedOut = func(*confirmation) { u.relays.end(k) } // the owner counts for itself
		u.relays.start(k, c)
	}
	if err := t.respond(res); err != nil {
		u.log.DebugContext(ctx, "answer not sent", "err", err)
	}
}

// Deliver serves a message that another instance received, and returns the
// answer that it shall send: for a request its final response, for an INVITE
// that is here already the last response so far, nothing for an ACK or an
// unknown INVITE. source and local are as the other instance saw them.
func (u *UA) Deliver(ctx context.Context, raw []byte, transport, source, local string) ([]byte, error) {
	if !u.work.enter() {
		return nil, ErrClosed
	}
	defer u.work.leave()
	remote, err := netip.ParseAddrPort(source)
	if err != nil {
		return nil, fmt.Errorf("ua: source: %w", err)
	}
	at, err := netip.ParseAddrPort(local)
	if err != nil {
		return nil, fmt.Errorf("ua: local address: %w", err)
	}
	m, scanErr := header.Scan(raw)
	if len(m.StartLine) > 4 && m.StartLine[:4] == "SIP/" {
		u.receiveResponse(m, scanErr, nil)
		return nil, nil
	}
	box := newMailbox()
	fl := &flow{transport: transport, local: at, remote: remote, dest: remote, contact: u.wires.addr(transport), send: box.send}
	r, ok := u.admit(m, scanErr, raw, fl)
	if ok {
		r.relayed = true
		if r.method == "INVITE" && r.m.Tag("to") == "" {
			return u.knownInvite(r), nil
		}
		u.dispatch(r)
		if r.method == "ACK" {
			return nil, nil
		}
	}
	select {
	case res := <-box.final:
		return res, nil
	case <-ctx.Done():
		return nil, errors.Join(ErrTimeout, ctx.Err())
	case <-u.life.Done():
		return nil, ErrClosed
	}
}

// knownInvite answers for an INVITE that reached another instance as well.
func (u *UA) knownInvite(r *request) []byte {
	if t := u.txns.get(r.key("INVITE")); t != nil {
		if last := t.lastResponse(); last != nil {
			return []byte(last.String())
		}
		return nil
	}
	if u.txns.merged(dialog.MergeKey(&r.m)) {
		return []byte(r.response(482, "Loop Detected", u.statelessTag(r), nil).String())
	}
	return nil
}

// mailbox catches the final response of a delivered request. What comes after
// it is the receiving instance's to repeat.
type mailbox struct {
	final chan []byte
}

func newMailbox() *mailbox { return &mailbox{final: make(chan []byte, 1)} }

func (b *mailbox) send(msg []byte, _ netip.AddrPort) error {
	if len(msg) > 8 && msg[8] == '1' { // "SIP/2.0 1xx"
		return nil
	}
	select {
	case b.final <- append([]byte(nil), msg...):
	default:
	}
	return nil
}
