// Package rpc speaks sessiond's gRPC: it reads a request, asks control, and
// writes the answer. A request for a session that another instance owns is
// passed on to it.
package rpc

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/partition"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/control"
	"github.com/callmesh/callmesh/sessiond/internal/peers"
	"github.com/callmesh/callmesh/sessiond/internal/record"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Verbs is what call control does for the services here.
type Verbs interface {
	Holds(id uuid.UUID) bool
	Snapshot(id uuid.UUID) (call.Session, bool)
	HangUp(ctx context.Context, domain string, id uuid.UUID, reason string) error
	Interrupt(ctx context.Context, domain string, id, participant uuid.UUID, command string) error
	EndDialogue(ctx context.Context, id, participant uuid.UUID, grant uint64, failed bool, detail string) error
	Ask(ctx context.Context, q control.Inquiry) (answer []byte, replyID string, err error)
	Notify(ctx context.Context, n control.Notice) (duplicate bool, err error)
}

// Reader reads live sessions.
type Reader interface {
	Load(ctx context.Context, id uuid.UUID) (store.Stored, error)
}

// Past reads ended sessions; SESSION_NOT_FOUND if there is none.
type Past interface {
	Session(ctx context.Context, domain string, id uuid.UUID) (call.Session, error)
}

// Lookup finds sessions wherever they are: here, in the store, in the archive.
type Lookup struct {
	Verbs Verbs
	Live  Reader
	Past  Past
}

// Session returns a session of the domain. That of another domain is not found:
// its existence is none of the caller's business.
func (f Lookup) Session(ctx context.Context, domain string, id uuid.UUID) (call.Session, error) {
	s, err := f.session(ctx, domain, id)
	if err != nil {
		return call.Session{}, err
	}
	if s.Domain != domain {
		return call.Session{}, notFound(id)
	}
	return s, nil
}

func (f Lookup) session(ctx context.Context, domain string, id uuid.UUID) (call.Session, error) {
	if s, ok := f.Verbs.Snapshot(id); ok {
		return s, nil
	}
	stored, err := f.Live.Load(ctx, id)
	switch {
	case err == nil:
		rec, err := record.Decode(stored.Record)
		return rec.Session, err
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrUnavailable):
		// What has ended can be read while Redis is away.
		s, pastErr := f.Past.Session(ctx, domain, id)
		if pastErr != nil && errors.Is(err, store.ErrUnavailable) {
			return call.Session{}, err
		}
		return s, pastErr
	}
	return call.Session{}, err
}

func notFound(id uuid.UUID) error {
	return fault.New(fault.SessionNotFound, "session %s not found", partition.Token(id)).On("token")
}

// Sessions is the canonical service.
type Sessions struct {
	sessionpb.UnsafeSessionsServer
	Verbs  Verbs
	Lookup Lookup
	Peers  *peers.Peers
}

// GetSession returns a live or an archived session.
func (s *Sessions) GetSession(ctx context.Context, req *sessionpb.GetSessionRequest) (*sessionpb.GetSessionResponse, error) {
	id, err := sessionID(req.GetSessionId(), "session_id")
	if err != nil {
		return nil, err
	}
	found, err := s.Lookup.Session(ctx, req.GetDomain(), id)
	if err != nil {
		return nil, err
	}
	return &sessionpb.GetSessionResponse{Session: record.Public(found)}, nil
}

// HangUp ends a session.
func (s *Sessions) HangUp(ctx context.Context, req *sessionpb.HangUpRequest) (*sessionpb.HangUpResponse, error) {
	id, err := sessionID(req.GetSessionId(), "session_id")
	if err != nil {
		return nil, err
	}
	if passOn(ctx, s.Verbs, id) {
		return peers.Pass[sessionpb.HangUpResponse](ctx, s.Peers, id, sessionpb.Sessions_HangUp_FullMethodName, req)
	}
	return &sessionpb.HangUpResponse{}, s.Verbs.HangUp(ctx, req.GetDomain(), id, req.GetReason())
}

// passOn tells whether a request is for another instance and has not been
// passed on before.
func passOn(ctx context.Context, v Verbs, id uuid.UUID) bool {
	return !v.Holds(id) && !peers.Hopped(ctx)
}

func sessionID(text, field string) (uuid.UUID, error) {
	id, err := partition.ParseID(text)
	if err != nil {
		return uuid.Nil, fault.New(fault.SessionNotFound, "session %q not found", clip(text)).On(field)
	}
	return id, nil
}

func participantID(text string) (uuid.UUID, error) {
	id, err := partition.ParseID(text)
	if err != nil {
		return uuid.Nil, fault.New(fault.BadRequest, "participant_id is no id").On("participant_id")
	}
	return id, nil
}

// clip keeps an error from echoing a long input.
func clip(text string) string {
	if len(text) > 64 {
		return text[:64] + "…"
	}
	return text
}
