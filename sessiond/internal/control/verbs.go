package control

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/callback"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/record"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Holds tells whether this instance owns the session.
func (c *Control) Holds(id uuid.UUID) bool {
	_, ok := c.find(id)
	return ok
}

// Snapshot returns a session that this instance owns.
func (c *Control) Snapshot(id uuid.UUID) (call.Session, bool) {
	l, ok := c.find(id)
	if !ok {
		return call.Session{}, false
	}
	return l.snapshot(), true
}

// HangUp ends a session of the domain: 486 before its answer, BYE after it. It
// returns when that is stored.
func (c *Control) HangUp(ctx context.Context, domain string, id uuid.UUID, reason string) error {
	l, ok := c.find(id)
	if !ok || l.snapshot().Domain != domain {
		return notHere(id)
	}
	if l.snapshot().State == call.Ended {
		return ended()
	}
	if err := l.apply(ctx, call.HungUp{Reason: reason}); errors.Is(err, call.ErrDone) {
		return ended()
	} else if err != nil {
		return err
	}
	return nil
}

func ended() error { return fault.New(fault.CallEnded, "the call has ended") }

// Interrupt stops the dialogue's running command, if it still is that one.
func (c *Control) Interrupt(ctx context.Context, domain string, id, participant uuid.UUID, command string) error {
	l, ok := c.find(id)
	s := call.Session{}
	if ok {
		s = l.snapshot()
	}
	if !ok || s.Domain != domain {
		return notHere(id)
	}
	p, ok := s.Participant(participant)
	if s.State == call.Ended || !ok || p.DialogueAddress == "" {
		return ended()
	}
	return c.Dialogues.Interrupt(ctx, p.DialogueAddress, s.ID, p.ID, command)
}

// EndDialogue takes an ivrd's word that a dialogue is over.
func (c *Control) EndDialogue(ctx context.Context, id, participant uuid.UUID, grant uint64, failed bool, detail string) error {
	l, ok := c.find(id)
	if !ok {
		return notHere(id)
	}
	if err := l.fenced(participant, grant); err != nil {
		return err
	}
	err := l.apply(ctx, call.DialogueEnded{Grant: grant, Failed: failed, Detail: detail})
	if errors.Is(err, call.ErrDone) {
		return nil // it had ended already: that is what the caller wants
	}
	return err
}

// fenced refuses dialogues whose grant on the participant is void.
func (l *live) fenced(participant uuid.UUID, grant uint64) error {
	s := l.snapshot()
	p, ok := s.Participant(participant)
	if !ok {
		return notHere(l.id)
	}
	if grant < p.Grant {
		return fault.New(fault.StaleGrant, "the dialogue no longer commands the participant").On("grant")
	}
	return nil
}

// Inquiry is a question that another daemon wants put to the application.
type Inquiry struct {
	Session, Participant uuid.UUID
	Name                 string
	Body                 []byte
	Command              string
	Grant                uint64
}

// Ask puts a question and returns the answer and the replyId that went out.
func (c *Control) Ask(ctx context.Context, q Inquiry) (answer []byte, replyID string, err error) {
	l, ok := c.find(q.Session)
	if !ok {
		return nil, "", notHere(q.Session)
	}
	if err := l.fenced(q.Participant, q.Grant); err != nil {
		return nil, "", err
	}
	s := l.snapshot()
	d, ok := c.Directory.Domain(s.Domain)
	if !ok {
		return nil, "", fault.New(fault.DomainNotFound, "domain %s does not exist any more", s.Domain)
	}
	transaction := uuid.NewString()
	env, err := c.envelope(s, q.Participant, q.Command, transaction)
	if err != nil {
		return nil, "", err
	}
	body, err := callback.Question(q.Body, s, c.site(d), env)
	if err != nil {
		return nil, "", fault.New(fault.BadRequest, "the question is not a JSON object").On("body").Because(err)
	}
	answer, err = c.Application.Ask(traced(ctx, s), d, Question{Session: s.ID, Name: q.Name, Transaction: transaction, Body: body})
	if err != nil {
		return nil, "", err
	}
	l.adoptReference(ctx, answer)
	return answer, env.ReplyID, nil
}

// adoptReference keeps the sessionReferenceId that an answer may bring.
func (l *live) adoptReference(ctx context.Context, answer []byte) {
	var a struct {
		ReferenceID json.RawMessage `json:"sessionReferenceId"`
	}
	if json.Unmarshal(answer, &a) != nil || len(a.ReferenceID) == 0 {
		return
	}
	s := l.snapshot()
	if string(s.ReferenceID) == string(a.ReferenceID) {
		return
	}
	if len(a.ReferenceID) > callback.MaxReference {
		l.log.WarnContext(ctx, "sessionReferenceId is larger than 64 KiB and not kept", "bytes", len(a.ReferenceID))
		return
	}
	if err := l.apply(ctx, call.ReferenceSet{ReferenceID: a.ReferenceID}); err != nil {
		l.log.InfoContext(ctx, "sessionReferenceId not kept", "err", err)
	}
}

// Notice is a notification that another daemon wants sent.
type Notice struct {
	Session   uuid.UUID
	DedupeKey string
	Kind      string
	Body      []byte
}

// Notify queues a notification for a session, which may have ended: once it
// returns, the notification will be delivered. duplicate tells that it was
// queued before.
func (c *Control) Notify(ctx context.Context, n Notice) (duplicate bool, err error) {
	s, ok := c.Snapshot(n.Session)
	if !ok {
		stored, err := c.Store.Load(ctx, n.Session)
		if err != nil {
			return false, err
		}
		rec, err := record.Decode(stored.Record)
		if err != nil {
			return false, err
		}
		s = rec.Session
	}
	d, ok := c.Directory.Domain(s.Domain)
	if !ok {
		return false, fault.New(fault.DomainNotFound, "domain %s does not exist any more", s.Domain)
	}
	app := d.GetApplication()
	target, url := app.GetUrl(), app.GetUrl()+"/"+n.Kind
	if lane.Kind(n.Kind) == lane.Alarm {
		target, url = app.GetAlarms(), app.GetAlarms()
	}
	if target == "" {
		return false, nil // the domain has nowhere to hear it
	}
	id := uuid.NewString()
	env, err := c.envelope(s, uuid.Nil, "", id)
	if err != nil {
		return false, err
	}
	body, err := callback.Notification(n.Body, s, c.site(d), env)
	if err != nil {
		return false, fault.New(fault.BadRequest, "the notification is not a JSON object").On("body").Because(err)
	}
	results, err := c.Store.Append(ctx, store.Fence{}, lane.Entry{
		ID: id, Session: s.ID, Domain: s.Domain, Target: target, URL: url, Kind: lane.Kind(n.Kind), DedupeKey: n.DedupeKey, Body: body,
	})
	if err != nil {
		return false, err
	}
	return results[0] == lane.Duplicate, nil
}
