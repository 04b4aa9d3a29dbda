package control

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/record"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

var _ ua.Calls = (*Control)(nil)

// Cancelled: the caller gave up (ua.Calls).
func (c *Control) Cancelled(_ context.Context, leg ua.LegRef, reason string) {
	c.post(leg, call.Cancelled{Reason: text(reason)})
}

// Acked: the ACK of a 2xx came (ua.Calls).
func (c *Control) Acked(_ context.Context, leg ua.LegRef, answer []byte) {
	if l, ok := c.find(leg.Session); ok {
		l.acked(leg.Leg, answer)
	}
}

// AckTimedOut: it did not come (ua.Calls).
func (c *Control) AckTimedOut(_ context.Context, leg ua.LegRef) {
	if l, ok := c.find(leg.Session); ok {
		l.noAck(leg.Leg)
		l.post(call.AckTimedOut{})
	}
}

// ByeReceived: the far end hung up (ua.Calls).
func (c *Control) ByeReceived(_ context.Context, leg ua.LegRef, reason string) {
	if l, ok := c.find(leg.Session); ok {
		l.forgetDialog(leg.Leg)
		l.post(call.ByeReceived{Reason: text(reason)})
	}
}

// InfoDigit brings a digit of a SIP INFO to the leg's collector (ua.Calls).
func (c *Control) InfoDigit(_ context.Context, leg ua.LegRef, digit string, d time.Duration) {
	l, ok := c.find(leg.Session)
	if !ok {
		return
	}
	p, ok := l.participant(leg.Leg)
	if !ok || p.LegID == "" {
		return
	}
	l.inOrder(func(ctx context.Context) {
		if err := c.Media.InjectDigit(ctx, p.MediaAddress, p.LegID, digit, d); err != nil {
			l.log.WarnContext(ctx, "a digit of SIP INFO was lost", "err", err)
		}
	})
}

// inOrder runs work after that which was given before: digits must not overtake
// each other. What exceeds maxQueue is dropped.
func (l *live) inOrder(work func(ctx context.Context)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ordered) >= maxQueue {
		return
	}
	l.ordered = append(l.ordered, work)
	if len(l.ordered) > 1 {
		return // the one who runs comes to it
	}
	l.begin(byeTimeout, func(ctx context.Context) {
		for {
			l.mu.Lock()
			next := l.ordered[0]
			l.mu.Unlock()
			next(ctx)
			l.mu.Lock()
			l.ordered = l.ordered[1:]
			done := len(l.ordered) == 0
			l.mu.Unlock()
			if done {
				return
			}
		}
	})
}

// Reoffered: the far end wants other media, or hold (ua.Calls).
func (c *Control) Reoffered(ctx context.Context, re *ua.Reinvite) {
	l, ok := c.find(re.Leg.Session)
	if !ok {
		if err := re.Reject(481, "Call/Transaction Does Not Exist"); err != nil {
			c.Log.WarnContext(ctx, "re-INVITE not answered", "err", err)
		}
		return
	}
	l.begin(openTimeout, func(ctx context.Context) { l.reoffered(ctx, re) })
}

// DialogOf returns a dialog that the UA has forgotten, or who owns it (ua.Calls).
func (c *Control) DialogOf(ctx context.Context, leg ua.LegRef) (*dialog.Dialog, string, error) {
	if l, ok := c.find(leg.Session); ok {
		if d, ok := l.dialog(leg.Leg); ok {
			return &d, "", nil
		}
		return nil, "", ua.ErrNoDialog
	}
	stored, err := c.Store.Load(ctx, leg.Session)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, "", ua.ErrNoDialog
	case err != nil:
		return nil, "", err // whether there is one is not known
	case stored.Owner == c.Instance:
		return nil, "", ua.ErrNoDialog
	}
	rec, err := record.Decode(stored.Record)
	if err != nil || rec.Session.State == call.Ended {
		return nil, "", ua.ErrNoDialog
	}
	return nil, stored.Owner, nil
}

// RTPTimedOut ends a call without media (media.Listener).
func (c *Control) RTPTimedOut(session uuid.UUID, silence time.Duration) {
	if l, ok := c.find(session); ok {
		l.post(call.MediaTimedOut{Silence: silence})
	}
}

// LegLost ends a call whose media server died (media.Listener).
func (c *Control) LegLost(session uuid.UUID, detail string) {
	if l, ok := c.find(session); ok {
		l.post(call.MediaLost{Detail: detail})
	}
}

func (c *Control) post(leg ua.LegRef, ev call.Event) {
	if l, ok := c.find(leg.Session); ok {
		l.post(ev)
	}
}

func (l *live) participant(leg uint8) (call.Participant, bool) {
	s := l.snapshot()
	return s.Leg(leg)
}

// forgetDialog makes sure that no BYE follows theirs.
func (l *live) forgetDialog(leg uint8) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.dialogs, leg)
}
