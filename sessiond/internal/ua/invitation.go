package ua

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/ua/header"
)

// Party is an address of a header: From, To, P-Asserted-Identity, ….
type Party struct {
	Display string
	URI     string
	// User is the unescaped user part, of a tel URI its number.
	User string
	Host string
}

// Facts are what an INVITE says, as far as call control asks.
type Facts struct {
	CallID      string
	RequestURI  string
	RequestUser string
	RequestHost string
	From, To    Party
	// Asserted holds P-Asserted-Identity, usually a SIP and a tel URI.
	Asserted []Party
	// Diversion holds the header's values, as received.
	Diversion     []string
	ReferredBy    string
	Subject       string
	Privacy       string
	RemotePartyID string
	UserAgent     string
	// Headers are the X- and P- headers in order, names as received.
	Headers []Header
	// Source and Local are where the INVITE came from and arrived at.
	Source, Local netip.AddrPort
	Transport     string
	Received      time.Time
	// Offer is the SDP offer, nil if the answer shall bring ours (late offer).
	Offer []byte
	// Raw is the INVITE as received.
	Raw []byte
}

func party(value string) (Party, bool) {
	a, err := header.ParseAddress(value)
	if err != nil {
		return Party{}, false
	}
	return Party{Display: a.Display, URI: a.URI, User: dialog.SIPUser(a.URI), Host: dialog.SIPHost(a.URI)}, true
}

func factsOf(r *request) Facts {
	m := &r.m
	f := Facts{
		CallID: m.Value("call-id"), RequestURI: r.uri,
		RequestUser: dialog.SIPUser(r.uri), RequestHost: dialog.SIPHost(r.uri),
		Diversion: m.List("diversion"), ReferredBy: m.Value("referred-by"), Subject: m.Value("subject"),
		Privacy: m.Value("privacy"), RemotePartyID: m.Value("remote-party-id"), UserAgent: m.Value("user-agent"),
		Source: r.flow.remote, Local: r.flow.local, Transport: r.flow.transport, Received: r.received,
		Offer: r.sdp, Raw: r.raw,
	}
	f.From, _ = party(m.Value("from"))
	f.To, _ = party(m.Value("to"))
	for _, v := range m.List("p-asserted-identity") {
		if p, ok := party(v); ok {
			f.Asserted = append(f.Asserted, p)
		}
	}
	for _, h := range m.Fields {
		if strings.HasPrefix(h.Key, "x-") || strings.HasPrefix(h.Key, "p-") {
			f.Headers = append(f.Headers, Header{Name: h.Name, Value: h.Value})
		}
	}
	return f
}

type answerState uint8

const (
	pending answerState = iota
	answered
	cancelled
)

// Invitation is an initial INVITE that waits for its answer. Its methods may be
// called from any goroutine.
type Invitation struct {
	Facts

	u *UA
	// r is let go with the final answer: control may keep the Invitation for as
	// long as the call lasts.
	r   *request
	txn *txn

	mu    sync.Mutex
	state answerState
	leg   LegRef
	bound bool
	tag   string
}

// Bind ties the INVITE to a leg: our tag carries it from now on, and other
// instances can find it. It comes before any other method but Reject.
func (i *Invitation) Bind(ctx context.Context, session uuid.UUID, leg uint8) error {
	ref := LegRef{Session: session, Leg: leg}
	if i.u.index != nil {
		if err := i.u.index.Claim(ctx, i.CallID, ref); err != nil {
			return err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.open(); err != nil {
		return err
	}
	i.leg, i.bound, i.tag = ref, true, i.u.tags.Make(session, leg)
	i.u.ringing.add(ref, i)
	return nil
}

// Leg returns what Bind was given.
func (i *Invitation) Leg() LegRef {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.leg
}

// open tells whether the INVITE still wants an answer; i.mu is held.
func (i *Invitation) open() error {
	switch i.state {
	case answered:
		return ErrAnswered
	case cancelled:
		return ErrCancelled
	}
	return nil
}

// Ringing sends 180.
func (i *Invitation) Ringing() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.open(); err != nil {
		return err
	}
	if !i.bound {
		return ErrUnbound
	}
	return i.txn.respond(i.r.response(180, "Ringing", i.tag, nil, i.u.contact(i.r.flow), allow))
}

// Accept sends 200 with sdp, an answer or, if there was no offer, our offer,
// and sends it again until its ACK comes. The dialog it returns is as it should
// be stored.
func (i *Invitation) Accept(sdp []byte) (dialog.Dialog, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.open(); err != nil {
		return dialog.Dialog{}, err
	}
	if !i.bound {
		return dialog.Dialog{}, ErrUnbound
	}
	d, err := dialog.FromInvite(&i.r.m, i.leg.Leg, i.tag, i.r.flow.transport, i.r.flow.remote.String())
	if err != nil {
		return dialog.Dialog{}, err
	}
	d.LocalSDP, d.RemoteSDP, d.Accepted = string(sdp), string(i.Offer), time.Now()

	res := i.r.response(200, "OK", i.tag, sdp, i.u.contact(i.r.flow), allow, supportedHeader, acceptSDP)
	r := i.end(answered)
	// The leg, and what waits for the ACK, are there before the ACK can be.
	l := i.u.legs.add(i.leg, d)
	l.expectAck(i.u.confirmation(i.leg, r, d.InviteCSeq, res))
	if err := i.txn.respond(res); err != nil {
		i.u.Forget(i.leg)
		return dialog.Dialog{}, err
	}
	i.u.m.invites.WithLabelValues("2xx").Inc()
	return d, nil
}

// Reject sends a final answer of 300 or above. It works unbound as well.
func (i *Invitation) Reject(code int, reason string, headers ...Header) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.open(); err != nil {
		return err
	}
	if code < 300 || code > 699 {
		return errBadCode(code)
	}
	tag := i.localTag()
	r := i.end(answered)
	i.u.m.invites.WithLabelValues(class(code)).Inc()
	return i.txn.respond(r.response(code, reason, tag, nil, headers...))
}

// end closes the INVITE for further answers and returns its request; i.mu is held.
func (i *Invitation) end(state answerState) *request {
	r, tag := i.r, i.tag
	i.state, i.r = state, nil
	// The transaction stays for half a minute, and need not keep us for it.
	i.txn.cancellable(func(string) (string, func()) { return tag, nil })
	if i.bound {
		i.u.ringing.remove(i.leg)
	}
	return r
}

// localTag is the tag of our answers; i.mu is held.
func (i *Invitation) localTag() string {
	if i.tag == "" {
		i.tag = i.u.statelessTag(i.r)
	}
	return i.tag
}

// cancel answers 487 unless the INVITE has its final answer. It returns the tag
// that the answer to the CANCEL carries.
func (i *Invitation) cancel(reason string) (tag string, tell func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	tag = i.localTag()
	if i.state != pending {
		return tag, nil
	}
	r := i.end(cancelled)
	bound, leg := i.bound, i.leg
	return tag, func() {
		if err := i.txn.respond(r.response(487, "Request Terminated", tag, nil)); err != nil {
			i.u.log.Debug("487 not sent", "call_id", i.CallID, "err", err)
		}
		i.u.m.invites.WithLabelValues("4xx").Inc()
		if bound {
			i.u.calls.Cancelled(i.u.life, leg, reason)
		}
	}
}
