package control

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/callmesh/callmesh/kit/partition"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/offer"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// retryAfter is what a refused caller is told to wait: about what a restart or
// a Redis failover takes.
var retryAfter = ua.Header{Name: "Retry-After", Value: "5"}

// Invited begins a session for a new INVITE (ua.Calls).
func (c *Control) Invited(_ context.Context, inv *ua.Invitation) {
	c.begin(func(ctx context.Context) { c.invited(ctx, inv) })
}

func (c *Control) invited(ctx context.Context, inv *ua.Invitation) {
	if c.draining.Load() {
		c.refuse(ctx, inv, 503, "Service Unavailable", "draining", retryAfter)
		return
	}
	d, ok := c.Directory.Route(inv.RequestUser, inv.RequestHost)
	if !ok {
		c.refuse(ctx, inv, 404, "Not Found", "unknown number")
		return
	}
	if rejection := malformed(inv.Offer); rejection != nil {
		c.refuse(ctx, inv, rejection.Code, rejection.Reason, "malformed offer", ua.Header{Name: "Warning", Value: rejection.Warning})
		return
	}
	l := c.newSession(ctx, inv, d)
	if err := c.store(ctx, l); err != nil {
		c.unstored(ctx, l, err)
		return
	}
	l.log.InfoContext(ctx, "call arrived", "from", inv.Source.String(), "transport", inv.Transport, "call_id", inv.CallID)
	l.limit = time.AfterFunc(c.Limit, func() { l.post(call.LimitReached{}) })
	l.release()
	l.post(call.Decided{Decision: c.decide(ctx, l, d)})
}

// malformed returns why an offer is no session description at all. One that is
// and cannot be agreed to is a call that fails, and its domain hears of it.
func malformed(sdp []byte) *offer.Rejection {
	if sdp == nil {
		return nil
	}
	_, err := offer.Receive(sdp, offer.G711())
	if rejection, ok := errors.AsType[*offer.Rejection](err); ok && rejection.Code == 400 {
		return rejection
	}
	return nil
}

// unstored refuses a call whose session could not be stored.
func (c *Control) unstored(ctx context.Context, l *live, err error) {
	if errors.Is(err, ua.ErrCancelled) {
		c.drop(l)
		c.m.refused.WithLabelValues("cancelled").Inc()
		return // it was taken back before it became a session
	}
	l.log.ErrorContext(ctx, "call refused: it cannot be stored", "err", err)
	c.refuse(ctx, l.invitation, 503, "Service Unavailable", "store", retryAfter)
	if maybe, ok := errors.AsType[uncertain](err); !ok || c.absent(ctx, l, maybe) {
		c.drop(l)
		return
	}
	// Redis may hold it by now: it is ended as any other, so that no phantom stays.
	l.reassert = true
	l.release()
	l.post(call.Orphaned{})
}

// absent tells whether the session is not in the store, as far as anybody can
// know: while Redis is away it is taken to be.
func (c *Control) absent(ctx context.Context, l *live, err uncertain) bool {
	if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	looking, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	_, loadErr := c.Store.Load(looking, l.id)
	return errors.Is(loadErr, store.ErrNotFound) || errors.Is(loadErr, store.ErrUnavailable)
}

// newSession makes the session and registers it, its queue held: a CANCEL may
// come before it is stored.
func (c *Control) newSession(ctx context.Context, inv *ua.Invitation, d *directorypb.Domain) *live {
	p := partition.ForKey(c.PartitionKey, inv.CallID)
	id := partition.NewID(p)
	s := call.Invite(sessionOf(inv.Facts, id, d.GetName()), partition.NewID(p), c.Now())
	s.TraceID = c.trace(ctx, s)
	s.TimeLimit = c.Limit
	l := &live{
		c: c, id: id, log: c.Log.With("session", partition.Token(id), "domain", s.Domain), epoch: 1, invitation: inv, held: true,
		session: s, dialogs: map[uint8]dialog.Dialog{}, talks: map[uint8]*talk{},
	}
	c.add(l)
	return l
}

// store writes the new session and binds the INVITE to it.
func (c *Control) store(ctx context.Context, l *live) error {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	number, err := c.Store.NextNumber(ctx, partition.Of(l.id))
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.session.Number = number
	s := l.session
	l.mu.Unlock()
	if err := l.invitation.Bind(ctx, l.id, 1); err != nil {
		return err
	}
	if err := l.create(ctx, s); err != nil {
		return uncertain{err}
	}
	return nil
}

// uncertain is a failed first write that may have been made all the same.
type uncertain struct{ error }

func (u uncertain) Unwrap() error { return u.error }

func (c *Control) refuse(ctx context.Context, inv *ua.Invitation, code int, text, why string, headers ...ua.Header) {
	c.m.refused.WithLabelValues(why).Inc()
	if err := inv.Reject(code, text, headers...); err != nil && !errors.Is(err, ua.ErrCancelled) {
		c.Log.WarnContext(ctx, "refusal not sent", "call_id", inv.CallID, "err", err)
	}
}

// sessionOf returns what an INVITE says of its session.
func sessionOf(f ua.Facts, id uuid.UUID, domain string) call.Session {
	s := call.Session{
		ID: id, Domain: domain, SIPCallID: text(f.CallID), Subject: text(f.Subject),
		Caller: call.Party{
			Number: text(f.From.User), DisplayName: text(f.From.Display), FromUser: text(f.From.User), ReferredBy: text(f.ReferredBy),
			Private: private(f),
		},
		Callee:      call.Party{Number: text(f.RequestUser), DisplayName: text(f.To.Display)},
		Source:      call.Endpoint{IP: f.Source.Addr().Unmap().String(), UserAgent: text(f.UserAgent)},
		Destination: call.Endpoint{IP: f.Local.Addr().Unmap().String()},
	}
	for _, d := range f.Diversion {
		s.Caller.DivertedBy = append(s.Caller.DivertedBy, text(d))
	}
	for _, h := range f.Headers {
		s.Headers = append(s.Headers, call.Header{Name: text(h.Name), Value: text(h.Value)})
	}
	// P-Asserted-Identity wins over From (contract §1.5); it often comes as a
	// SIP and a tel URI that say the same.
	for _, p := range f.Asserted {
		if s.Caller.Asserted == "" && p.User != "" {
			s.Caller.Asserted, s.Caller.Number = text(p.User), text(p.User)
		}
		if p.Display != "" {
			s.Caller.DisplayName = text(p.Display)
			break
		}
	}
	return s
}

// text makes what a phone sent fit for JSON and protobuf, which are UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// private tells whether the caller withholds its number (RFC 3323 §4.2; From
// "anonymous" is how the older devices of RFC 3325 §7 say it).
func private(f ua.Facts) bool {
	for _, v := range strings.FieldsFunc(f.Privacy, func(r rune) bool { return r == ';' || r == ',' }) {
		switch strings.ToLower(strings.TrimSpace(v)) {
		case "id", "user", "header":
			return true
		}
	}
	return strings.EqualFold(f.From.User, "anonymous") || strings.Contains(strings.ToLower(f.RemotePartyID), "privacy=full")
}

// trace begins the call's trace and returns its id as a UUID, as callbacks
// show it; without a tracer the id is random.
func (c *Control) trace(ctx context.Context, s call.Session) string {
	_, span := otel.Tracer("callmesh/sessiond").Start(ctx, "call", trace.WithNewRoot(),
		trace.WithAttributes(attribute.String("session", s.ID.String()), attribute.String("domain", s.Domain)))
	defer span.End()
	sc := span.SpanContext()
	if !sc.HasTraceID() {
		return uuid.NewString()
	}
	return uuid.UUID(sc.TraceID()).String()
}

// traced returns ctx within the call's trace, so that what is done for the
// call shows up under it.
func traced(ctx context.Context, s call.Session) context.Context {
	id, err := hex.DecodeString(strings.ReplaceAll(s.TraceID, "-", ""))
	if err != nil || len(id) != 16 {
		return ctx
	}
	span := trace.SpanID(s.ID[8:16])
	return trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(id), SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true,
	}))
}
