package ua

import (
	"sync"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

// Reinvite is a re-INVITE that waits for its answer.
type Reinvite struct {
	Leg LegRef
	// Dialog is the state after this request, its target refreshed.
	Dialog dialog.Dialog
	// Offer is nil if our 2xx shall carry the offer.
	Offer []byte

	u   *UA
	r   *request
	txn *txn
	l   *leg

	mu    sync.Mutex
	state answerState
}

// Accept sends 200 with sdp, again until its ACK comes, and returns the dialog
// as it should be stored.
func (re *Reinvite) Accept(sdp []byte) (dialog.Dialog, error) {
	re.mu.Lock()
	defer re.mu.Unlock()
	if err := re.open(); err != nil {
		return dialog.Dialog{}, err
	}
	re.state = answered
	res := re.r.response(200, "OK", re.Dialog.LocalTag, sdp, re.u.contact(re.r.flow), allow, supportedHeader, acceptSDP)
	d := re.l.agreed(sdp, re.Offer)
	re.l.expectAck(re.u.confirmation(re.Leg, re.r, re.Dialog.RemoteCSeq, res))
	re.l.endTheirs()
	if err := re.txn.respond(res); err != nil {
		re.l.dropAck(re.Dialog.RemoteCSeq)
		return dialog.Dialog{}, err
	}
	return d, nil
}

// Reject refuses the offer; the call goes on as it was (RFC 3261 §14.2).
func (re *Reinvite) Reject(code int, reason string, headers ...Header) error {
	re.mu.Lock()
	defer re.mu.Unlock()
	if err := re.open(); err != nil {
		return err
	}
	if code < 300 || code > 699 {
		return errBadCode(code)
	}
	re.state = answered
	re.l.endTheirs()
	return re.txn.respond(re.r.response(code, reason, re.Dialog.LocalTag, nil, headers...))
}

func (re *Reinvite) open() error {
	switch re.state {
	case answered:
		return ErrAnswered
	case cancelled:
		return ErrCancelled
	}
	return nil
}

// cancel answers 487 (RFC 3261 §9.2); the dialog stays.
func (re *Reinvite) cancel(string) (tag string, tell func()) {
	re.mu.Lock()
	defer re.mu.Unlock()
	if re.state != pending {
		return re.Dialog.LocalTag, nil
	}
	re.state = cancelled
	return re.Dialog.LocalTag, func() {
		re.l.endTheirs()
		if err := re.txn.respond(re.r.response(487, "Request Terminated", re.Dialog.LocalTag, nil)); err != nil {
			re.u.log.Debug("487 not sent", "call_id", re.Dialog.CallID, "err", err)
		}
	}
}
