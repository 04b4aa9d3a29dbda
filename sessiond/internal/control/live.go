package control

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// live is one session that this instance owns. Its events wait in a queue; a
// goroutine exists only while there are some.
type live struct {
	c   *Control
	id  uuid.UUID
	log *slog.Logger
	// epoch is the fencing number of our ownership.
	epoch uint64
	// invitation is the INVITE that began the session; nil after a take-over.
	invitation *ua.Invitation
	limit      *time.Timer

	mu      sync.Mutex
	queue   []queued
	running bool
	// ordered is work that is done one piece after the other.
	ordered []func(ctx context.Context)
	// held keeps the queue from running until the session is stored.
	held bool

	// What follows is changed by the running goroutine alone, under mu.
	session call.Session
	dialogs map[uint8]dialog.Dialog
	talks   map[uint8]*talk
	version uint64
	// reassert: a write was not acknowledged, so versions cannot be trusted.
	reassert bool
	// unsent is what a write carried that neither Redis nor the journal took: the
	// next one brings it along.
	unsent   []lane.Entry
	unsaved  bool
	unending bool // the archive is to be told as well
	// byes are BYEs on their way: the session stays until the last is answered,
	// for the UA needs its dialog until then.
	byes int
	// noticed counts our notifications; with the epoch it names each.
	noticed int
	over    bool // accounted for
	gone    bool
}

type queued struct {
	ev   call.Event
	done chan<- error // nil where nobody waits
}

// maxQueue bounds what a stranger can make a session have waiting. What ends a
// call or answers an effect is never dropped.
const maxQueue = 256

// post queues an event and returns at once.
func (l *live) post(ev call.Event) { l.enqueue(queued{ev: ev}) }

// apply queues an event and waits until it is stored, or refused.
func (l *live) apply(ctx context.Context, ev call.Event) error {
	done := make(chan error, 1)
	l.enqueue(queued{ev: ev, done: done})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fault.New(fault.Timeout, "the service took too long").Because(ctx.Err())
	}
}

func (l *live) enqueue(q queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone || (len(l.queue) >= maxQueue && call.Repeatable(q.ev)) {
		if q.done != nil {
			q.done <- call.ErrDone
		}
		return
	}
	l.queue = append(l.queue, q)
	l.run()
}

// run starts the goroutine if there is work and none runs; l.mu is held.
func (l *live) run() {
	if l.running || l.held || len(l.queue) == 0 {
		return
	}
	l.running = true
	l.c.begin(l.work)
}

// release lets the queue of a new session run.
func (l *live) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = false
	l.run()
}

func (l *live) work(context.Context) {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 || l.gone {
			l.running = false
			l.refuse()
			l.mu.Unlock()
			return
		}
		next := l.queue[0]
		l.queue = l.queue[1:]
		l.mu.Unlock()
		err := l.step(next.ev)
		if next.done != nil {
			next.done <- err
		}
	}
}

// refuse answers those who wait for events that will not be handled; l.mu is held.
func (l *live) refuse() {
	for _, q := range l.queue {
		if q.done != nil {
			q.done <- call.ErrDone
		}
	}
	l.queue = nil
}

// saveTimeout bounds one write; after it the session goes on from memory.
const saveTimeout = 3 * time.Second

// step handles one event: the machine, the store, and then the effects.
func (l *live) step(ev call.Event) error {
	// A step begun is finished, also while the daemon stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.c.life), saveTimeout)
	defer cancel()
	now := l.c.Now()
	before := l.snapshot()
	next, effects, err := before.Apply(ev, now)
	switch {
	case errors.Is(err, call.ErrDone):
		return err
	case err != nil:
		l.log.WarnContext(ctx, "event out of place", "err", err)
		return err
	}
	if !call.Volatile(ev, before, next) {
		if err := l.save(ctx, next, effects); err != nil {
			l.lost(ctx)
			return err
		}
	}
	l.mu.Lock()
	l.session = next
	l.mu.Unlock()
	l.c.m.observe(before, next)
	l.tell(ctx, before, next)
	for _, e := range effects {
		l.do(ctx, next, e)
	}
	if next.Stage == call.Done {
		l.finish(next)
	}
	return nil
}

// snapshot returns the session as it is.
func (l *live) snapshot() call.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session
}

// dialog returns the SIP dialog of a leg.
func (l *live) dialog(leg uint8) (dialog.Dialog, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.dialogs[leg]
	return d, ok
}

func (l *live) setDialog(d dialog.Dialog) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialogs[d.Leg] = d
}

// allDialogs returns the dialogs in the order of their legs.
func (l *live) allDialogs() []dialog.Dialog {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]dialog.Dialog, 0, len(l.dialogs))
	for _, d := range l.dialogs {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b dialog.Dialog) int { return int(a.Leg) - int(b.Leg) })
	return out
}

// lost forgets a session that another instance has claimed: its dialogs, media
// and dialogue are that instance's business now.
func (l *live) lost(ctx context.Context) {
	l.log.WarnContext(ctx, "the session was claimed by another instance")
	l.leave()
}

// finish lets go of a session that is accounted for, once that is stored and
// its BYEs are answered.
func (l *live) finish(s call.Session) {
	if l.unsaved {
		l.c.begin(func(ctx context.Context) { l.saveUntilStored(ctx, s) })
		return
	}
	l.settle(func() { l.over = true })
}

// settle changes what the session's end waits for, and leaves if that was last.
func (l *live) settle(change func()) {
	l.mu.Lock()
	change()
	done := l.over && l.byes == 0 && !l.gone
	l.mu.Unlock()
	if done {
		l.leave()
	}
}

// retryEvery is how often the last write of a session is tried again.
const retryEvery = time.Second

// saveUntilStored tries until the end of the session is stored, or the daemon
// ends; then another instance finds the session unended, and ends it.
func (l *live) saveUntilStored(ctx context.Context, s call.Session) {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for l.unsaved {
		select {
		case <-ctx.Done():
			l.log.ErrorContext(ctx, "the end of the session could not be stored")
			l.leave()
			return
		case <-tick.C:
		}
		saving, cancel := context.WithTimeout(ctx, saveTimeout)
		err := l.save(saving, s, nil)
		cancel()
		if err != nil {
			l.lost(ctx)
			return
		}
	}
	l.settle(func() { l.over = true })
}

func (l *live) leave() {
	l.mu.Lock()
	l.gone = true
	l.mu.Unlock()
	if l.limit != nil {
		l.limit.Stop()
	}
	for _, d := range l.allDialogs() {
		l.c.phone.Forget(ua.LegRef{Session: l.id, Leg: d.Leg})
	}
	l.c.drop(l)
}

// tell logs a call's life in a few lines.
func (l *live) tell(ctx context.Context, before, after call.Session) {
	switch {
	case before.Stage == after.Stage:
	case after.State == call.Ended && before.State != call.Ended:
		l.log.InfoContext(ctx, "call ended", "outcome", after.Outcome, "reason", after.CompletedReason, "by", after.Cause.By,
			"sip_code", after.Cause.SIPCode, "seconds", int(after.Ended.Sub(after.Started).Seconds()), "error", after.LastError)
	case after.Stage == call.Accepted:
		l.log.InfoContext(ctx, "call answered", "codec", after.Participants[0].Codec)
	case after.Stage == call.Talking:
		l.log.InfoContext(ctx, "dialogue starts")
	case after.Stage == call.Done:
		l.log.InfoContext(ctx, "call accounted for")
	}
}
