package control

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/google/uuid"

	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/callback"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/record"
	"github.com/callmesh/callmesh/sessiond/internal/reply"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// save writes the session's next state together with the notifications that
// belong to it. While Redis is away the store journals the write, and the call
// goes on. What neither takes stays in memory and goes with the next write. The
// only error is that the session belongs to another instance by now.
func (l *live) save(ctx context.Context, next call.Session, effects []call.Effect) error {
	w, err := l.write(next, effects)
	if err == nil {
		err = l.put(ctx, w)
	}
	switch {
	case err == nil:
		l.unsent, l.unsaved, l.unending = nil, false, false
	case errors.Is(err, store.ErrStaleEpoch):
		return err
	default:
		l.log.ErrorContext(ctx, "session state is kept in memory alone", "err", err)
		l.unsent, l.unsaved, l.unending = w.Append, true, w.Ended
		l.reassert = true
	}
	return nil
}

// put makes one write. A session that Redis has lost, in a failover or a
// restart, is asserted anew; so is one whose version has run ahead, as only we
// write under our epoch and an answer must have got lost.
func (l *live) put(ctx context.Context, w store.Write) error {
	version, err := l.c.Store.Save(ctx, w)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrStaleWrite) {
		w.Reassert = true
		version, err = l.c.Store.Save(ctx, w)
	}
	if err != nil {
		return err
	}
	l.version, l.reassert = version, false
	return nil
}

// create makes the first write of a session, which must succeed: a call that
// nobody would remember is refused.
func (l *live) create(ctx context.Context, s call.Session) error {
	w, err := l.write(s, nil)
	if err != nil {
		return err
	}
	version, err := l.c.Store.Save(ctx, w)
	if err != nil {
		return err
	}
	l.version = version
	return nil
}

func (l *live) write(next call.Session, effects []call.Effect) (store.Write, error) {
	var dialogs []*sessionpb.Dialog
	for _, d := range l.allDialogs() {
		dialogs = append(dialogs, d.ToRecord())
	}
	rec, err := record.Encode(record.Stored{Session: next, Dialogs: dialogs})
	if err != nil {
		return store.Write{}, err
	}
	row, err := record.Row(next)
	if err != nil {
		return store.Write{}, err
	}
	w := store.Write{
		ID: next.ID, Domain: next.Domain, Owner: l.c.Instance, Epoch: l.epoch, Version: l.version,
		Record: rec, Row: row, Reassert: l.reassert, Append: slices.Clone(l.unsent), Ended: l.unending,
	}
	for _, e := range effects {
		switch e := e.(type) {
		case call.Archive:
			w.Ended = true
		case call.Notify:
			l.noticed++
			entry, ok, err := l.entry(next, e, "e"+strconv.FormatUint(l.epoch, 10)+"."+strconv.Itoa(l.noticed))
			if err != nil {
				l.log.Error("a notification cannot be worded", "kind", e.Kind, "err", err)
				continue
			}
			if ok {
				w.Append = append(w.Append, entry)
			}
		}
	}
	return w, nil
}

// entry words a notification; ok is false if the domain has nowhere to send it.
func (l *live) entry(s call.Session, n call.Notify, dedupe string) (e lane.Entry, ok bool, err error) {
	d, _ := l.c.Directory.Domain(s.Domain)
	app := d.GetApplication()
	id := uuid.NewString()
	env, err := l.c.envelope(s, uuid.Nil, "", id)
	if err != nil {
		return lane.Entry{}, false, err
	}
	e = lane.Entry{ID: id, Session: s.ID, Domain: s.Domain, Kind: lane.Kind(n.Kind), DedupeKey: dedupe}
	switch n.Kind {
	case call.SessionCompleted:
		e.Target, e.URL, e.DedupeKey = app.GetUrl(), app.GetUrl()+"/sessionCompleted", "sessionCompleted"
		e.Body, err = callback.SessionCompleted(s, l.c.site(d), env)
		return e, app.GetUrl() != "", err
	default:
		e.Target, e.URL = app.GetAlarms(), app.GetAlarms()
		e.Body, err = callback.Alarm(n.Alarm, s, l.c.site(d), env)
		return e, app.GetAlarms() != "", err
	}
}

// envelope makes the fields that every callback has.
func (c *Control) envelope(s call.Session, participant uuid.UUID, command, transaction string) (callback.Envelope, error) {
	token, err := c.Reply.Sign(reply.ID{Domain: s.Domain, Session: s.ID, Participant: participant, Command: command, Server: c.Server})
	if err != nil {
		return callback.Envelope{}, err
	}
	return callback.Envelope{ReplyID: token, TransactionID: transaction}, nil
}
