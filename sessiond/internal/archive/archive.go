// Package archive keeps ended sessions in SQL: one row a session, with the
// scalars that lists search by and the record as it was when the session ended.
// PostgreSQL serves a deployment, SQLite a single machine; both are held to the
// same contract by package archivetest.
package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
)

// ErrNotFound: the domain has no such session in the archive.
var ErrNotFound = fault.New(fault.SessionNotFound, "session not found")

// Session is an ended session.
type Session struct {
	ID        uuid.UUID
	Number    int64
	Domain    string
	Direction string
	// Outcome and the names of the other enumerations are those of the APIs'
	// canonical form, in lower case: "answer", "busy".
	Outcome string
	// SIPCode and EndedBy are the cause; 0 and "" where there is none.
	SIPCode        int
	EndedBy        string
	Caller, Callee string
	CallID         string
	TraceID        string
	// Times are kept to the millisecond; zero for what never came about.
	Created, Started, Answered, Ended time.Time
	// Version is that of the record: a later one replaces the row.
	Version uint64
	Record  []byte
}

// Archive is the ended sessions in one database. It is safe for concurrent use.
type Archive struct {
	db *sql.DB
	d  dialect
}

// columns in the order of [Session.values].
var columns = []string{
	"id", "number", "domain", "direction", "outcome", "sip_code", "ended_by", "caller", "callee", "call_id", "trace_id",
	"created_ms", "started_ms", "answered_ms", "ended_ms", "version", "record",
}

func (s Session) values(d dialect) []any {
	return []any{
		d.id(s.ID), s.Number, text(s.Domain), text(s.Direction), text(s.Outcome), s.SIPCode, text(s.EndedBy),
		key(s.Caller), key(s.Callee), key(s.CallID), text(s.TraceID),
		millis(s.Created), millis(s.Started), millis(s.Answered), millis(s.Ended), int64(s.Version), record(s.Record),
	}
}

// text makes a string fit for PostgreSQL: what callers send in SIP may be no
// UTF-8, and no text column holds a NUL.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// maxKey bounds what callers write into indexed columns: PostgreSQL refuses a row
// with more than 2704 bytes of them. The record has the whole.
const maxKey = 512

func key(s string) string {
	s = text(s)
	if len(s) <= maxKey {
		return s
	}
	return strings.ToValidUTF8(s[:maxKey], "") // without the part of a character
}

func record(b []byte) []byte {
	if b == nil {
		return []byte{} // the column is NOT NULL
	}
	return b
}

func millis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}

func instant(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMilli(n.Int64).UTC()
}

// maxRows bounds one INSERT: SQLite takes 32766 parameters, PostgreSQL 65535.
const maxRows = 500

// Put archives sessions, all of them or none. A session that is there already
// keeps its one row, which takes the later version.
func (a *Archive) Put(ctx context.Context, sessions ...Session) error {
	if len(sessions) == 0 {
		return nil
	}
	if len(sessions) > maxRows {
		return fmt.Errorf("archive: %d sessions at once, more than %d", len(sessions), maxRows)
	}
	rows := latest(sessions)
	args := make([]any, 0, len(rows)*len(columns))
	for _, s := range rows {
		args = append(args, s.values(a.d)...)
	}
	if _, err := a.db.ExecContext(ctx, a.insert(len(rows)), args...); err != nil {
		return fmt.Errorf("archive %d sessions: %w", len(rows), err)
	}
	return nil
}

// latest keeps the last version of each session: one INSERT may not touch a row
// twice.
func latest(sessions []Session) []Session {
	at := make(map[uuid.UUID]int, len(sessions))
	rows := make([]Session, 0, len(sessions))
	for _, s := range sessions {
		i, seen := at[s.ID]
		switch {
		case !seen:
			at[s.ID] = len(rows)
			rows = append(rows, s)
		case s.Version >= rows[i].Version:
			rows[i] = s
		}
	}
	return rows
}

func (a *Archive) insert(rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO sessions (" + strings.Join(columns, ", ") + ") VALUES ")
	for r := range rows {
		if r > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('(')
		for c := range columns {
			if c > 0 {
				b.WriteString(", ")
			}
			b.WriteString(a.d.param(r*len(columns) + c + 1))
		}
		b.WriteByte(')')
	}
	b.WriteString(" ON CONFLICT (id) DO UPDATE SET ")
	for i, c := range columns[1:] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c + " = excluded." + c)
	}
	b.WriteString(" WHERE excluded.version >= sessions.version")
	return b.String()
}

// Get returns a session of a domain, or ErrNotFound: also where it is another
// domain's.
func (a *Archive) Get(ctx context.Context, domain string, id uuid.UUID) (Session, error) {
	row := a.db.QueryRowContext(ctx, "SELECT number, direction, outcome, sip_code, ended_by, caller, callee, call_id, trace_id,"+
		" created_ms, started_ms, answered_ms, ended_ms, version, record FROM sessions WHERE id = "+a.d.param(1)+" AND domain = "+a.d.param(2),
		a.d.id(id), domain)
	s := Session{ID: id, Domain: domain}
	var created, started, answered, ended sql.NullInt64
	var version int64
	err := row.Scan(&s.Number, &s.Direction, &s.Outcome, &s.SIPCode, &s.EndedBy, &s.Caller, &s.Callee, &s.CallID, &s.TraceID,
		&created, &started, &answered, &ended, &version, &s.Record)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, fmt.Errorf("archived session %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Session{}, fmt.Errorf("archived session %s: %w", id, err)
	}
	s.Created, s.Started, s.Answered, s.Ended = instant(created), instant(started), instant(answered), instant(ended)
	s.Version = uint64(version)
	return s, nil
}

// Count returns how many sessions of a domain are archived.
func (a *Archive) Count(ctx context.Context, domain string) (int64, error) {
	var n int64
	err := a.db.QueryRowContext(ctx, "SELECT count(*) FROM sessions WHERE domain = "+a.d.param(1), domain).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count archived sessions: %w", err)
	}
	return n, nil
}

// Ping says whether the database answers.
func (a *Archive) Ping(ctx context.Context) error {
	if err := a.db.PingContext(ctx); err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// Close ends all connections.
func (a *Archive) Close() error { return a.db.Close() }
