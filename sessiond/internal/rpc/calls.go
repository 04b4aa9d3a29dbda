package rpc

import (
	"context"
	"strconv"
	"time"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/principal"
	callspb "github.com/callmesh/callmesh/proto/gen/callmesh/calls/v1"
	commonpb "github.com/callmesh/callmesh/proto/gen/callmesh/common/v1"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// Domains finds a domain by its name or number.
type Domains interface {
	Domain(name string) (*directorypb.Domain, bool)
	Numbered(number int64) (*directorypb.Domain, bool)
}

// Calls shows sessions by the Cloudonix contract (§2).
type Calls struct {
	callspb.UnsafeSessionsServer
	Lookup  Lookup
	Domains Domains
}

// GetSession returns a live or past session by its token.
func (s *Calls) GetSession(ctx context.Context, req *callspb.GetSessionRequest) (*callspb.GetSessionResponse, error) {
	d, err := s.domain(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	id, err := sessionID(req.GetToken(), "token")
	if err != nil {
		return nil, err
	}
	found, err := s.Lookup.Session(ctx, d.GetName(), id)
	if err != nil {
		return nil, err
	}
	return &callspb.GetSessionResponse{Session: cloudonix(found, d)}, nil
}

// domain returns the domain that a path names by its name, its number, or as
// the credential's own ("self", contract §2.1).
func (s *Calls) domain(ctx context.Context, named string) (*directorypb.Domain, error) {
	p := principal.From(ctx)
	if named == "self" && len(p.Domains) == 1 {
		named = p.Domains[0]
	}
	d, ok := s.Domains.Domain(named)
	if number, err := strconv.ParseInt(named, 10, 64); err == nil {
		d, ok = s.Domains.Numbered(number)
	}
	if ok {
		return d, grpckit.Covers(p, d.GetName())
	}
	if err := grpckit.Covers(p, named); err != nil {
		return nil, err // whether others' domains exist is not told
	}
	return nil, fault.New(fault.DomainNotFound, "domain %s not found", clip(named)).On("domain")
}

// cloudonix returns the contract's view of a session (§2.3); what is not known
// stays unset and becomes null.
func cloudonix(s call.Session, d *directorypb.Domain) *callspb.Session {
	out := &callspb.Session{
		Id: ptr(s.Number), DomainId: ptr(d.GetNumber()),
		Domain: &callspb.Domain{
			TenantId: ptr(d.GetNumber()), Domain: ptr(d.GetName()), Active: ptr(true), Aliases: d.GetNumbers(),
			Profile: &commonpb.RawJson{Json: []byte("{}")}, Application: text(d.GetApplication().GetUrl()),
		},
		Destination: text(s.Callee.Number), CallerId: text(s.Caller.Number), Direction: text(string(s.Direction)),
		Token: ptr(partition.Token(s.ID)), Profile: &commonpb.RawJson{Json: s.Profile},
		CallStartTime: millis(s.Started), CallAnswerTime: millis(s.Answered), CallEndTime: millis(s.Ended),
		StartTime: iso(s.Started), AnswerTime: iso(s.Answered), EndTime: iso(s.Ended),
		Callback: text(s.Callback), Status: ptr(s.Status()), CreatedAt: iso(s.Created), ModifiedAt: iso(s.Modified), LastError: text(s.LastError),
	}
	if len(s.Profile) == 0 {
		out.Profile = &commonpb.RawJson{Json: []byte("{}")}
	}
	if s.TimeLimit > 0 {
		out.TimeLimit = ptr(int64(s.TimeLimit.Seconds()))
	}
	if len(s.Routes) > 0 {
		out.Routes = &commonpb.RawJson{Json: s.Routes}
	}
	return out
}

func ptr[T any](v T) *T { return &v }

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func millis(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	return ptr(t.UnixMilli())
}

func iso(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	return ptr(t.UTC().Format("2006-01-02T15:04:05.000Z"))
}
