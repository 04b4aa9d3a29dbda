package ua

import (
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

// leg is a dialog that this instance holds, with what is open in it.
type leg struct {
	ref LegRef

	mu     sync.Mutex
	d      dialog.Dialog
	offers dialog.Offers
	// unacked are our 2xx that wait for their ACK, by CSeq: one, or two while a
	// re-INVITE overtakes a lost ACK.
	unacked []*confirmation
	// reinvite is the far end's that has no final answer.
	reinvite *Reinvite
	// dead is set when nothing may be started any more.
	dead bool
}

// legStore finds legs. A leg is forgotten with BYE, or when control says so.
type legStore struct {
	mu     sync.Mutex
	closed bool
	byRef  map[LegRef]*leg
}

func newLegStore() *legStore { return &legStore{byRef: make(map[LegRef]*leg)} }

// add keeps a leg; one that is there already stays.
func (s *legStore) add(ref LegRef, d dialog.Dialog) *leg {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.byRef[ref]; l != nil {
		return l
	}
	l := &leg{ref: ref, d: d, dead: s.closed}
	s.byRef[ref] = l
	return l
}

func (s *legStore) get(ref LegRef) *leg {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byRef[ref]
}

// remove takes the leg out; false if it was gone.
func (s *legStore) remove(ref LegRef) bool {
	s.mu.Lock()
	l := s.byRef[ref]
	delete(s.byRef, ref)
	s.mu.Unlock()
	if l == nil {
		return false
	}
	l.stop()
	return true
}

func (s *legStore) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byRef)
}

func (s *legStore) stop() {
	s.mu.Lock()
	s.closed = true
	all := make([]*leg, 0, len(s.byRef))
	for _, l := range s.byRef {
		all = append(all, l)
	}
	s.mu.Unlock()
	for _, l := range all {
		l.stop()
	}
}

// early finds the INVITEs that have no final answer, for a BYE in their early
// dialog (RFC 3261 §15).
type early struct {
	mu    sync.Mutex
	byRef map[LegRef]*Invitation
}

func (e *early) add(ref LegRef, i *Invitation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.byRef == nil {
		e.byRef = make(map[LegRef]*Invitation)
	}
	e.byRef[ref] = i
}

func (e *early) remove(ref LegRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.byRef, ref)
}

func (e *early) get(ref LegRef) *Invitation {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byRef[ref]
}

func (e *early) size() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.byRef)
}

// Forget lets go of a leg: its session has ended, or moved to another instance.
func (u *UA) Forget(ref LegRef) { u.legs.remove(ref) }

// Dialog returns the present state of a leg that this UA holds.
func (u *UA) Dialog(ref LegRef) (dialog.Dialog, bool) {
	l := u.legs.get(ref)
	if l == nil {
		return dialog.Dialog{}, false
	}
	return l.dialog(), true
}

func (l *leg) dialog() dialog.Dialog {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.d
}

// receive takes a request into the dialog.
func (l *leg) receive(r *request) *dialog.Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.d.Receive(&r.m, r.flow.transport, r.flow.remote.String())
}

// reoffer takes a re-INVITE into the dialog and opens its exchange.
func (l *leg) reoffer(r *request) (dialog.Dialog, *dialog.Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// §14.2 before §12.2.2: a request that is refused for glare is not taken in,
	// but its CSeq counts all the same.
	before := l.d
	if ref := l.d.Receive(&r.m, r.flow.transport, r.flow.remote.String()); ref != nil {
		return dialog.Dialog{}, ref
	}
	ref := l.offers.BeginTheirs()
	if ref == nil && len(l.unacked) > 0 && l.unacked[len(l.unacked)-1].lateOffer {
		// Our offer in the last 2xx has no answer yet.
		l.offers.EndTheirs()
		ref = &dialog.Refusal{Code: 491, Reason: "Request Pending"}
	}
	if ref != nil {
		l.d.RemoteTarget = before.RemoteTarget
		return dialog.Dialog{}, ref
	}
	return l.d, nil
}

func (l *leg) endTheirs() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offers.EndTheirs()
	l.reinvite = nil
}

func (l *leg) waiting(re *Reinvite) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reinvite = re
}

// terminate answers what is open when the dialog ends (RFC 3261 §15.1.2).
func (l *leg) terminate() {
	l.mu.Lock()
	re := l.reinvite
	l.mu.Unlock()
	if re == nil {
		return
	}
	if _, tell := re.cancel(""); tell != nil {
		tell()
	}
}

// agreed notes the descriptions of an exchange.
func (l *leg) agreed(ours, theirs []byte) dialog.Dialog {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ours != nil {
		l.d.LocalSDP = string(ours)
	}
	if theirs != nil {
		l.d.RemoteSDP = string(theirs)
	}
	return l.d
}

func (l *leg) expectAck(c *confirmation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return
	}
	l.unacked = append(l.unacked, c)
	c.start()
}

// acked ends the wait for the ACK to a 2xx; nil if there was none.
func (l *leg) acked(seq uint32, answer []byte) *confirmation {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range l.unacked {
		if c.seq == seq {
			l.unacked = append(l.unacked[:i], l.unacked[i+1:]...)
			c.stop()
			if c.lateOffer && answer != nil {
				l.d.RemoteSDP = string(answer)
			}
			return c
		}
	}
	return nil
}

func (l *leg) dropAck(seq uint32) { l.acked(seq, nil) }

func (l *leg) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	for _, c := range l.unacked {
		c.stop()
	}
	l.unacked = nil
}

// confirmation is a 2xx on its way: sent again, with doubling pauses, until its
// ACK comes (RFC 3261 §13.3.1.4), on any transport, for the next hop need not be
// the last.
type confirmation struct {
	seq       uint32
	lateOffer bool
	message   []byte
	flow      *flow
	t1, t2    time.Duration
	timedOut  func(*confirmation)

	mu      sync.Mutex
	timer   *time.Timer
	next    time.Duration
	elapsed time.Duration
	stopped bool
}

func (u *UA) confirmation(ref LegRef, r *request, seq uint32, res *sip.Response) *confirmation {
	return &confirmation{seq: seq, lateOffer: r.sdp == nil, message: []byte(res.String()), flow: r.flow,
		t1: u.cfg.T1, t2: u.cfg.T2, timedOut: func(c *confirmation) { u.ackTimedOut(ref, c) }}
}

func (c *confirmation) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = c.t1
	c.timer = time.AfterFunc(c.next, c.tick)
}

func (c *confirmation) tick() {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return
	}
	c.elapsed += c.next
	if c.elapsed >= 64*c.t1 {
		c.stopped = true
		c.mu.Unlock()
		c.timedOut(c)
		return
	}
	c.next = min(2*c.next, c.t2, 64*c.t1-c.elapsed)
	c.timer.Reset(c.next)
	c.mu.Unlock()
	_ = c.flow.send(c.message, c.flow.dest) // the next try, or the timeout, deals with it
}

func (c *confirmation) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// ackTimedOut runs on the timer's goroutine.
func (u *UA) ackTimedOut(ref LegRef, c *confirmation) {
	if !u.work.must() {
		return
	}
	defer u.work.leave()
	if l := u.legs.get(ref); l != nil {
		l.dropAck(c.seq)
	}
	u.m.ackTimeouts.Inc()
	u.calls.AckTimedOut(u.life, ref)
}
