package sessiond

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/run"
	"github.com/callmesh/callmesh/sessiond/internal/archive"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
	"github.com/callmesh/callmesh/sessiond/internal/record"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// archiving moves ended sessions to the archive, and reads them there. The
// database is opened when the daemon starts, not when it is built.
type archiving struct {
	url      string
	env      daemon.Env
	sessions *store.Store
	leases   *lease.Leases

	archive  *archive.Archive
	archiver *archive.Archiver
}

func (a *archiving) part() run.Part {
	return run.Part{
		Name:  "archive",
		Start: a.open,
		Serve: func(ctx context.Context) error { return a.archiver.Run(ctx) },
		Stop:  a.flush,
	}
}

// close closes the database: a part that is stopped after the archiver.
func (a *archiving) close() run.Part {
	return run.Part{Name: "archive database", Stop: func(context.Context) error {
		if a.archive == nil {
			return nil
		}
		return a.archive.Close()
	}}
}

func (a *archiving) open(ctx context.Context) (err error) {
	if a.archive, err = archive.Open(ctx, a.url); err != nil {
		return err
	}
	a.archiver, err = archive.NewArchiver(a.sessions, a.archive, a.leases, scalars, a.env.Log, a.env.Metrics, archive.Options{})
	return err
}

// flush archives what the last calls left, so that a clean stop leaves nothing
// to others.
func (a *archiving) flush(ctx context.Context) error { return a.archiver.Round(ctx) }

// has tells whether the archive has the session.
func (a *archiving) has(ctx context.Context, domain string, id uuid.UUID) (bool, error) {
	_, err := a.archive.Get(ctx, domain, id)
	if errors.Is(err, archive.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Session returns an ended session of the domain.
func (a *archiving) Session(ctx context.Context, domain string, id uuid.UUID) (call.Session, error) {
	row, err := a.archive.Get(ctx, domain, id)
	if err != nil {
		return call.Session{}, err
	}
	rec, err := record.Decode(row.Record)
	return rec.Session, err
}

// scalars takes the archive's columns from a stored session.
func scalars(st store.Stored) (archive.Session, error) {
	rec, err := record.Decode(st.Record)
	if err != nil {
		return archive.Session{}, err
	}
	s := rec.Session
	return archive.Session{
		ID: s.ID, Number: s.Number, Domain: s.Domain, Direction: string(s.Direction), Outcome: string(s.Outcome),
		SIPCode: s.Cause.SIPCode, EndedBy: string(s.Cause.By), Caller: s.Caller.Number, Callee: s.Callee.Number,
		CallID: s.SIPCallID, TraceID: s.TraceID, Created: s.Created, Started: s.Started, Answered: s.Answered, Ended: s.Ended,
		Version: st.Version, Record: st.Record,
	}, nil
}
