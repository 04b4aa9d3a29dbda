package ua

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

// withLeg finds the dialog of a request, here, in the store or at another
// instance, and hands the request on.
func (u *UA) withLeg(r *request, serve func(*request, *txn, *leg)) {
	session, n, err := u.tags.Parse(r.m.Tag("to"))
	if err != nil {
		u.refuse(r, dialog.NoSuchDialog())
		return
	}
	if u.crowded(r, true) {
		u.m.rejected.WithLabelValues("503").Inc()
		u.answer(r, 503, "Service Unavailable", retryAfter)
		return
	}
	ref := LegRef{Session: session, Leg: n}
	t, fresh := u.begin(r)
	if !fresh {
		t.again()
		return
	}
	if l := u.legs.get(ref); l != nil {
		serve(r, t, l)
		return
	}
	if inv := u.ringing.get(ref); inv != nil {
		u.receiveEarly(r, t, inv)
		return
	}
	if !u.spawn(func() { u.elsewhere(r, t, ref, serve) }) {
		u.m.rejected.WithLabelValues("503").Inc()
		u.finish(r, t, 503, "Service Unavailable", retryAfter)
	}
}

// elsewhere serves a request in a dialog that this UA does not hold yet.
func (u *UA) elsewhere(r *request, t *txn, ref LegRef, serve func(*request, *txn, *leg)) {
	ctx, cancel := context.WithTimeout(u.life, storeWait)
	defer cancel()
	d, owner, err := u.calls.DialogOf(ctx, ref)
	switch {
	case err == nil && owner != "" && owner != u.cfg.Instance:
		u.relay(ctx, r, t, ref, owner)
	case err == nil && d != nil:
		serve(r, t, u.legs.add(ref, *d))
	case err != nil && !errors.Is(err, ErrNoDialog):
		u.m.rejected.WithLabelValues("503").Inc()
		u.finish(r, t, 503, "Service Unavailable", retryAfter)
	default:
		u.refuseIn(r, t, dialog.NoSuchDialog())
	}
}

// finish answers within the transaction.
func (u *UA) finish(r *request, t *txn, code int, reason string, hs ...Header) {
	if err := t.respond(r.response(code, reason, "", nil, hs...)); err != nil {
		u.log.Debug("answer not sent", "code", code, "err", err)
	}
}

func (u *UA) refuseIn(r *request, t *txn, ref *dialog.Refusal) {
	u.m.rejected.WithLabelValues(codeLabel(ref.Code)).Inc()
	u.finish(r, t, ref.Code, ref.Reason, refusalHeaders(ref)...)
}

func refusalHeaders(ref *dialog.Refusal) []Header {
	if ref.Code == 500 && ref.RetryAfter > 0 {
		return []Header{{"Retry-After", strconv.Itoa(ref.RetryAfter)}}
	}
	return nil
}

func (u *UA) receiveBye(r *request, t *txn, l *leg) {
	if ref := l.receive(r); ref != nil {
		u.refuseIn(r, t, ref)
		return
	}
	if !u.legs.remove(l.ref) { // our own BYE, or another of theirs, was faster
		u.finish(r, t, 200, "OK")
		return
	}
	u.finish(r, t, 200, "OK")
	l.terminate()
	u.calls.ByeReceived(u.life, l.ref, reasonText(&r.m))
}

// receiveEarly takes a request in a dialog that is not confirmed yet. A BYE
// ends the INVITE as a CANCEL does (RFC 3261 §15.1.2); nothing else is done there.
func (u *UA) receiveEarly(r *request, t *txn, inv *Invitation) {
	if r.method != "BYE" || r.m.Value("call-id") != inv.CallID {
		u.refuseIn(r, t, dialog.NoSuchDialog())
		return
	}
	_, tell := inv.cancel(reasonText(&r.m))
	u.finish(r, t, 200, "OK")
	if tell != nil {
		tell()
	}
}

func (u *UA) receiveOptions(r *request, t *txn, l *leg) {
	if ref := l.receive(r); ref != nil {
		u.refuseIn(r, t, ref)
		return
	}
	u.finish(r, t, 200, "OK", allow, supportedHeader, acceptSDP)
}

func (u *UA) receiveInfo(r *request, t *txn, l *leg) {
	if ref := l.receive(r); ref != nil {
		u.refuseIn(r, t, ref)
		return
	}
	if r.m.Value("info-package") != "" { // RFC 6086 §4.2.2: we have announced none
		u.m.rejected.WithLabelValues("469").Inc()
		u.finish(r, t, 469, "Bad Info Package")
		return
	}
	if len(r.m.Body) == 0 {
		u.finish(r, t, 200, "OK") // a keep-alive
		return
	}
	kind, _, _ := strings.Cut(r.m.Value("content-type"), ";")
	digit, d, err := parseDigit(strings.ToLower(strings.TrimSpace(kind)), r.m.Body)
	switch {
	case errors.Is(err, errNoDigits):
		u.m.rejected.WithLabelValues("415").Inc()
		u.finish(r, t, 415, "Unsupported Media Type", Header{"Accept", "application/dtmf-relay, application/dtmf"})
	case err != nil:
		u.m.rejected.WithLabelValues("400").Inc()
		u.finish(r, t, 400, "Bad Digit")
	default:
		u.finish(r, t, 200, "OK")
		u.calls.InfoDigit(u.life, l.ref, digit, d)
	}
}

func (u *UA) receiveReinvite(r *request, t *txn, l *leg) {
	d, ref := l.reoffer(r)
	if ref != nil {
		u.refuseIn(r, t, ref)
		return
	}
	re := &Reinvite{Leg: l.ref, Dialog: d, Offer: r.sdp, u: u, r: r, txn: t, l: l}
	l.waiting(re)
	if early := t.cancellable(re.cancel); early != nil {
		if _, tell := re.cancel(*early); tell != nil {
			tell()
		}
		return
	}
	u.calls.Reoffered(u.life, re)
}

// receiveAck takes an ACK: to a refusal it ends the transaction, to a 2xx it
// belongs to the dialog. ACK is never answered.
func (u *UA) receiveAck(r *request, t *txn) {
	if t != nil {
		if last := t.lastResponse(); last != nil && last.StatusCode >= 300 {
			t.ack()
			return
		}
	}
	session, n, err := u.tags.Parse(r.m.Tag("to"))
	if err != nil {
		// Also the ACK to a refusal that was given without a transaction.
		return
	}
	ref := LegRef{Session: session, Leg: n}
	if l := u.legs.get(ref); l != nil {
		u.ackLeg(r, l)
		return
	}
	seq, _, _ := r.m.CSeq()
	u.relays.end(relayKey{ref, seq})
	if r.relayed || u.forward == nil {
		return
	}
	if !u.spawn(func() {
		ctx, cancel := context.WithTimeout(u.life, storeWait)
		defer cancel()
		switch d, owner, err := u.calls.DialogOf(ctx, ref); {
		case err == nil && owner != "" && owner != u.cfg.Instance:
			if _, err := u.sendOn(ctx, r, owner); err != nil {
				u.log.Warn("ACK not forwarded", "instance", owner, "err", err)
			}
		case err == nil && d != nil:
			u.ackLeg(r, u.legs.add(ref, *d))
		}
	}) {
		u.m.dropped.WithLabelValues("overload").Inc() // the 2xx, and with it the ACK, comes again
	}
}

func (u *UA) ackLeg(r *request, l *leg) {
	seq, _, _ := r.m.CSeq()
	d := l.dialog()
	if !d.Matches(&r.m) {
		u.m.dropped.WithLabelValues("stray").Inc()
		return
	}
	c := l.acked(seq, r.sdp)
	if c == nil {
		return // a retransmission
	}
	var answer []byte
	if c.lateOffer {
		answer = r.sdp
	}
	u.calls.Acked(u.life, l.ref, answer)
}
