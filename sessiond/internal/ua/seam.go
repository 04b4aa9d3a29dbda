package ua

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/sessiond/internal/dialog"
)

// LegRef names a leg of a session: what our local tag carries.
type LegRef struct {
	Session uuid.UUID
	Leg     uint8
}

// Header is a header field.
type Header struct{ Name, Value string }

// Calls is what the UA needs of call control. Implementations return quickly:
// they queue per session. Events of one leg come in the order in which their
// messages were received; ctx carries no deadline of the SIP transaction.
type Calls interface {
	// Invited brings a validated initial INVITE, 100 already sent. It is answered
	// through inv's methods, then or later, from any goroutine.
	Invited(ctx context.Context, inv *Invitation)
	// Cancelled tells that the far end took back an unanswered INVITE that was
	// bound to the leg; 200 and 487 were sent. An INVITE cancelled before it was
	// bound makes Bind fail with ErrCancelled instead. reason is the text of the
	// CANCEL's Reason header.
	Cancelled(ctx context.Context, leg LegRef, reason string)
	// Acked tells of the ACK to our 2xx, with the answer of a late offer or nil.
	// An ACK to the 2xx of a re-INVITE comes here as well.
	Acked(ctx context.Context, leg LegRef, answer []byte)
	// AckTimedOut tells that no ACK came within 64*T1; control sends BYE.
	AckTimedOut(ctx context.Context, leg LegRef)
	// ByeReceived tells that the far end hung up; 200 was sent, and the UA has
	// forgotten the dialog.
	ByeReceived(ctx context.Context, leg LegRef, reason string)
	// InfoDigit brings a DTMF digit of an INFO.
	InfoDigit(ctx context.Context, leg LegRef, digit string, d time.Duration)
	// Reoffered brings a re-INVITE, with or without an offer, answered through
	// re's methods.
	Reoffered(ctx context.Context, re *Reinvite)
	// DialogOf returns the stored dialog of a leg for a request in a dialog that
	// this UA holds nothing of; elsewhere, if not empty, names the instance that
	// owns the session. ErrNoDialog answers 481, any other error 503: a far end
	// that is told 481 hangs up (RFC 3261 §12.2.1.2). It may ask a store.
	DialogOf(ctx context.Context, leg LegRef) (d *dialog.Dialog, elsewhere string, err error)
}

// CallIndex knows, across instances, which legs a Call-ID belongs to. It
// serves retransmissions, CANCELs and merged requests that reach an instance
// which does not hold the INVITE.
type CallIndex interface {
	// Claim records a leg of this instance under the Call-ID of its INVITE.
	Claim(ctx context.Context, callID string, leg LegRef) error
	// Lookup returns the legs of a Call-ID and the instance that owns them; no
	// legs and no error if there are none.
	Lookup(ctx context.Context, callID string) (legs []LegRef, owner string, err error)
}

// Forward hands a message to another instance's Deliver and returns what that
// returned.
type Forward func(ctx context.Context, instance string, raw []byte, transport, source, local string) (response []byte, err error)

// Errors of an Invitation's and a Reinvite's methods.
var (
	// ErrCancelled says that the far end has taken the INVITE back.
	ErrCancelled = errors.New("ua: the INVITE was cancelled")
	// ErrAnswered says that the INVITE already has its final answer.
	ErrAnswered = errors.New("ua: the INVITE is answered already")
	// ErrUnbound says that Bind has to come first.
	ErrUnbound = errors.New("ua: the INVITE is not bound to a leg")
	// ErrNoDialog says that there is no such dialog, or no longer.
	ErrNoDialog = errors.New("ua: no such dialog")
	// ErrClosed says that the UA is shutting down.
	ErrClosed = errors.New("ua: closed")
	// ErrTimeout says that a request of ours got no answer in time.
	ErrTimeout = errors.New("ua: no answer")
)
