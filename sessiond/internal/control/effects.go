package control

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// How long the effects may take that wait for somebody else.
const (
	openTimeout  = 4 * time.Second
	closeTimeout = 10 * time.Second
	startTimeout = 5 * time.Second
	// stopTimeout bounds what the end of a session waits for its dialogue.
	stopTimeout = 10 * time.Second
	byeTimeout  = 70 * time.Second // 64*T1 for an outstanding ACK, and as much for BYE
)

// do carries out one effect. What takes time is begun here and reports back as
// an event, so the session's queue goes on meanwhile.
func (l *live) do(ctx context.Context, s call.Session, e call.Effect) {
	switch e := e.(type) {
	case call.OpenLeg:
		l.begin(openTimeout, func(ctx context.Context) { l.openLeg(ctx, s) })
	case call.Accept:
		l.accept(ctx, s)
	case call.Reject:
		l.reject(ctx, e)
	case call.SendBye:
		for _, d := range l.allDialogs() {
			l.settle(func() { l.byes++ })
			l.begin(byeTimeout, func(ctx context.Context) {
				l.bye(ctx, d, e.Reason)
				l.settle(func() { l.byes-- })
			})
		}
	case call.StartDialogue:
		l.begin(startTimeout, func(ctx context.Context) { l.startDialogue(ctx, s, e) })
	case call.StopDialogue:
		l.begin(stopTimeout, func(ctx context.Context) { l.stopDialogue(ctx, s, e.Participant) })
	case call.CloseLeg:
		l.begin(closeTimeout, func(ctx context.Context) { l.closeLeg(ctx, s, e.Participant) })
	case call.Notify, call.Archive:
		// done by the write
	}
}

// begin runs work that ends with its timeout, or with Drain.
func (l *live) begin(timeout time.Duration, work func(ctx context.Context)) {
	l.c.begin(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		work(traced(ctx, l.snapshot()))
	})
}

func (l *live) reject(ctx context.Context, e call.Reject) {
	if l.invitation == nil {
		return // the INVITE died with the instance that had it
	}
	var headers []ua.Header
	if e.Reason != "" {
		headers = append(headers, ua.Header{Name: "Reason", Value: e.Reason})
	}
	if e.Code == 503 {
		headers = append(headers, retryAfter)
	}
	if e.Code == 488 {
		headers = append(headers, ua.Header{Name: "Warning", Value: l.warning()})
	}
	if err := l.invitation.Reject(e.Code, e.Text, headers...); err != nil && !errors.Is(err, ua.ErrCancelled) {
		l.log.WarnContext(ctx, "refusal not sent", "code", e.Code, "err", err)
	}
}

// accept answers 200, unless the caller has cancelled meanwhile.
func (l *live) accept(ctx context.Context, s call.Session) {
	d, err := l.invitation.Accept(l.localSDP(1))
	if err != nil {
		cancelled := errors.Is(err, ua.ErrCancelled)
		if !cancelled {
			l.log.ErrorContext(ctx, "200 not sent", "err", err)
		}
		l.post(call.NotAccepted{Cancelled: cancelled})
		return
	}
	l.setDialog(d)
	// Without its dialog nobody else could end this call.
	if err := l.save(ctx, s, nil); err != nil {
		l.lost(ctx)
	}
}

func (l *live) bye(ctx context.Context, d dialog.Dialog, reason string) {
	var headers []ua.Header
	if reason != "" {
		headers = append(headers, ua.Header{Name: "Reason", Value: reason})
	}
	// BYE may not overtake the ACK of our 2xx (RFC 3261 §15).
	if t := l.talk(d.Leg); t != nil {
		select {
		case <-t.acked:
		case <-ctx.Done():
		}
	}
	if err := l.c.phone.Bye(ctx, &d, headers...); err != nil {
		// The far end is gone, or never was: the session ends all the same.
		l.log.InfoContext(ctx, "BYE was not confirmed", "err", err)
	}
}

func (l *live) startDialogue(ctx context.Context, s call.Session, e call.StartDialogue) {
	p, _ := s.Participant(e.Participant)
	d, _ := l.c.Directory.Domain(s.Domain)
	address, err := l.c.Dialogues.Start(ctx, Dialogue{
		Session: s.ID, Participant: p.ID, Domain: s.Domain, LegID: p.LegID, MediaAddress: p.MediaAddress, Grant: p.Grant,
		ReferenceID: s.ReferenceID, Command: e.Command, AllowPrivate: d.GetApplication().GetAllowPrivate(),
	})
	if err != nil {
		l.log.ErrorContext(ctx, "no dialogue could be started", "err", err)
		l.post(call.DialogueRefused{Detail: "no IVR server is available"})
		return
	}
	l.post(call.DialogueBegan{Address: address})
}

func (l *live) stopDialogue(ctx context.Context, s call.Session, participant uuid.UUID) {
	p, _ := s.Participant(participant)
	if err := l.c.Dialogues.Stop(ctx, p.DialogueAddress, s.ID, p.ID); err != nil {
		// Its grant is void and its leg is about to go: it cannot outlive them.
		l.log.WarnContext(ctx, "the dialogue did not confirm its end", "err", err)
	}
	l.post(call.DialogueStopped{})
}

func (l *live) closeLeg(ctx context.Context, s call.Session, participant uuid.UUID) {
	p, _ := s.Participant(participant)
	figures, err := l.c.Media.CloseLeg(ctx, p.MediaAddress, p.LegID)
	if err != nil {
		// The pool goes on trying: nothing leaks for long.
		l.log.WarnContext(ctx, "the leg did not confirm its end", "err", err)
	}
	l.post(call.LegClosed{RTP: figures})
}
