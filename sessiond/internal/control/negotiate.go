package control

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/callmesh/callmesh/kit/fault"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/media"
	"github.com/callmesh/callmesh/sessiond/internal/offer"
	"github.com/callmesh/callmesh/sessiond/internal/sdp"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// talk is the offer/answer state of one leg (RFC 3264).
type talk struct {
	// address is where our leg receives RTP.
	address netip.AddrPort
	// local is our last description.
	local []byte
	// awaiting is set while an offer of ours waits for its answer in an ACK.
	awaiting bool
	// acked is closed when the ACK of our first 2xx came, or never will.
	acked   chan struct{}
	settled bool
	// refusal is the Warning of an offer that could not be answered.
	refusal string
}

// legName is the leg's id at the media server.
func legName(p call.Participant) string { return p.ID.String() }

// openLeg gets a leg that suits the caller's offer, or one that we can make an
// offer for.
func (l *live) openLeg(ctx context.Context, s call.Session) {
	t := &talk{acked: make(chan struct{})}
	l.mu.Lock()
	l.talks[1] = t
	l.mu.Unlock()
	opened, local, codec, err := l.negotiate(ctx, s, t)
	if err != nil {
		l.post(legFailed(t, err))
		return
	}
	t.local = local
	l.post(call.LegOpened{MediaAddress: opened.Address, LegID: legName(s.Participants[0]), Codec: codec})
}

func (l *live) negotiate(ctx context.Context, s call.Session, t *talk) (opened media.Opened, local []byte, codec string, err error) {
	p := s.Participants[0]
	request := media.Open{Session: s.ID, Participant: p.ID, Leg: legName(p), Grant: p.Grant}
	remote := l.invitation.Offer
	if remote == nil {
		t.awaiting = true
		request.Description = anything()
		request.IPv6 = l.invitation.Source.Addr().Unmap().Is6()
		if opened, err = l.c.Media.OpenLeg(ctx, request); err != nil {
			return opened, nil, "", err
		}
		if t.address, err = address(opened); err != nil {
			return opened, nil, "", err
		}
		return opened, offer.Make(offer.G711(), offer.Local{Address: t.address, SessionID: sessionNumber()}), "", nil
	}
	agreed, err := offer.Receive(remote, offer.G711())
	if err != nil {
		return opened, nil, "", err
	}
	request.Description, request.IPv6 = description(agreed), agreed.IPv6
	if opened, err = l.c.Media.OpenLeg(ctx, request); err != nil {
		return opened, nil, "", err
	}
	if t.address, err = address(opened); err != nil {
		return opened, nil, "", err
	}
	return opened, agreed.Answer(offer.Local{Address: t.address, SessionID: sessionNumber()}), agreed.Codecs[0].Name, nil
}

// legFailed words why there is no leg, as the SIP answer has to say it.
func legFailed(t *talk, err error) call.LegFailed {
	if rejection, ok := errors.AsType[*offer.Rejection](err); ok {
		t.refusal = rejection.Warning
		return call.LegFailed{Code: rejection.Code, Detail: "the SDP offer cannot be answered: " + rejection.Warning}
	}
	if fault.ReasonOf(err) == fault.PortsExhausted {
		return call.LegFailed{Code: 503, Detail: "no media port is free"}
	}
	return call.LegFailed{Code: 503, Detail: "no media server is available"}
}

func (l *live) talk(leg uint8) *talk {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.talks[leg]
}

func (l *live) localSDP(leg uint8) []byte { return l.talk(leg).local }

func (l *live) warning() string {
	if t := l.talk(1); t != nil && t.refusal != "" {
		return t.refusal
	}
	return `399 callmesh "not acceptable"`
}

// acked takes the ACK of a 2xx, with the answer to an offer of ours if that
// 2xx carried one.
func (l *live) acked(leg uint8, answer []byte) {
	t := l.talk(leg)
	if t == nil {
		return
	}
	l.mu.Lock()
	awaited := t.awaiting
	t.awaiting = false
	t.settle()
	l.mu.Unlock()
	if !awaited {
		l.post(call.Acked{})
		return
	}
	l.begin(openTimeout, func(ctx context.Context) { l.answered(ctx, leg, t, answer) })
}

// noAck notes that the ACK will not come any more.
func (l *live) noAck(leg uint8) {
	if t := l.talk(leg); t != nil {
		l.mu.Lock()
		t.settle()
		l.mu.Unlock()
	}
}

// settle lets those go on who wait for the ACK; the session's lock is held.
func (t *talk) settle() {
	if !t.settled {
		t.settled = true
		close(t.acked)
	}
}

// answered applies the answer to our offer before the call goes on.
func (l *live) answered(ctx context.Context, leg uint8, t *talk, answer []byte) {
	agreed, err := offer.Accept(t.local, answer, offer.G711())
	if err != nil {
		l.post(call.Acked{InvalidSDP: true})
		return
	}
	p, _ := l.participant(leg)
	if err := l.c.Media.UpdateLeg(ctx, p.MediaAddress, p.LegID, description(agreed)); err != nil {
		l.log.ErrorContext(ctx, "the answer could not be applied", "err", err)
		l.post(call.MediaLost{Detail: "the media server did not take the answer"})
		return
	}
	l.keepRemote(leg, answer)
	l.post(call.Acked{Codec: agreed.Codecs[0].Name})
	l.post(call.HoldChanged{Leg: leg, OnHold: agreed.Held})
}

func (l *live) keepRemote(leg uint8, remote []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.dialogs[leg]; ok {
		d.RemoteSDP = string(remote)
		l.dialogs[leg] = d
	}
}

// reoffered answers a re-INVITE: other media, hold, resume, or a request for
// our offer. What cannot be agreed leaves the call as it was (RFC 3261 §14.2).
func (l *live) reoffered(ctx context.Context, re *ua.Reinvite) {
	t := l.talk(re.Leg.Leg)
	p, ok := l.participant(re.Leg.Leg)
	if t == nil || !ok || p.LegID == "" {
		l.refuseReoffer(ctx, re, 488, "Not Acceptable Here")
		return
	}
	if re.Offer == nil {
		l.offerAgain(ctx, re, t)
		return
	}
	agreed, err := offer.Receive(re.Offer, offer.G711())
	if err != nil {
		rejection, _ := errors.AsType[*offer.Rejection](err)
		l.refuseReoffer(ctx, re, rejection.Code, rejection.Reason, ua.Header{Name: "Warning", Value: rejection.Warning})
		return
	}
	local := agreed.Answer(offer.Local{Address: t.address, Previous: t.local})
	if err := l.c.Media.UpdateLeg(ctx, p.MediaAddress, p.LegID, description(agreed)); err != nil {
		l.log.ErrorContext(ctx, "the new offer could not be applied", "err", err)
		l.refuseReoffer(ctx, re, 500, "Server Internal Error")
		return
	}
	if l.acceptReoffer(ctx, re, t, local) {
		l.post(call.HoldChanged{Leg: re.Leg.Leg, OnHold: agreed.Held})
	}
}

func (l *live) offerAgain(ctx context.Context, re *ua.Reinvite, t *talk) {
	l.mu.Lock()
	t.awaiting = true
	l.mu.Unlock()
	l.acceptReoffer(ctx, re, t, offer.Make(offer.G711(), offer.Local{Address: t.address, Previous: t.local}))
}

func (l *live) acceptReoffer(ctx context.Context, re *ua.Reinvite, t *talk, local []byte) bool {
	// Before the 200 is out: its ACK, with an answer, may be quicker than we.
	l.mu.Lock()
	t.local = local
	l.mu.Unlock()
	d, err := re.Accept(local)
	if err != nil {
		l.log.WarnContext(ctx, "re-INVITE not answered", "err", err)
		return false
	}
	l.setDialog(d)
	return true
}

func (l *live) refuseReoffer(ctx context.Context, re *ua.Reinvite, code int, text string, headers ...ua.Header) {
	if err := re.Reject(code, text, headers...); err != nil {
		l.log.WarnContext(ctx, "re-INVITE not answered", "err", err)
	}
}

// description tells the media server what was agreed.
func description(a *offer.Agreement) *mediapb.Description {
	d := &mediapb.Description{
		RemoteRtcpPort: uint32(a.RTCPPort), RtcpMux: a.RTCPMux, TelephoneEventPayloadType: uint32(a.EventPT), Direction: direction(a.Direction),
	}
	if a.Remote.IsValid() {
		d.RemoteAddress, d.RemotePort = a.Remote.Addr().String(), uint32(a.Remote.Port())
	}
	for _, c := range a.Codecs {
		d.Codecs = append(d.Codecs, &mediapb.Codec{Name: c.Name, PayloadType: uint32(c.PT), ClockRate: uint32(c.Rate)})
	}
	return d
}

// anything is the description of a leg whose far end is not known yet.
func anything() *mediapb.Description {
	caps := offer.G711()
	d := &mediapb.Description{TelephoneEventPayloadType: uint32(caps.EventPT), Direction: mediapb.Direction_DIRECTION_SENDRECV}
	for _, c := range caps.Codecs {
		d.Codecs = append(d.Codecs, &mediapb.Codec{Name: c.Name, PayloadType: uint32(c.PT), ClockRate: uint32(c.Rate)})
	}
	return d
}

func direction(d sdp.Direction) mediapb.Direction {
	switch d {
	case sdp.SendOnly:
		return mediapb.Direction_DIRECTION_SENDONLY
	case sdp.RecvOnly:
		return mediapb.Direction_DIRECTION_RECVONLY
	case sdp.Inactive:
		return mediapb.Direction_DIRECTION_INACTIVE
	}
	return mediapb.Direction_DIRECTION_SENDRECV
}

func address(o media.Opened) (netip.AddrPort, error) {
	ip, err := netip.ParseAddr(o.LocalIP)
	if err != nil {
		return netip.AddrPort{}, fault.New(fault.Internal, "internal error").Because(err)
	}
	return netip.AddrPortFrom(ip, o.LocalPort), nil
}

// sessionNumber is the number in o= of a first description: random, below 2^62,
// so that it says nothing of the session.
func sessionNumber() uint64 {
	b := make([]byte, 8)
	rand.Read(b) // never fails: crypto/rand aborts the program instead
	return binary.BigEndian.Uint64(b) >> 2
}
