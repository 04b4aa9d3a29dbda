package call

import "time"

// Event is something that happened to a session.
type Event interface{ kind() kind }

type kind string

const (
	decided         kind = "decided"
	legOpened       kind = "leg opened"
	legFailed       kind = "leg failed"
	acked           kind = "acked"
	ackTimedOut     kind = "ack timed out"
	notAccepted     kind = "not accepted"
	cancelled       kind = "cancelled"
	byeReceived     kind = "bye received"
	hungUp          kind = "hung up"
	dialogueBegan   kind = "dialogue began"
	dialogueRefused kind = "dialogue refused"
	dialogueEnded   kind = "dialogue ended"
	mediaTimedOut   kind = "media timed out"
	mediaLost       kind = "media lost"
	limitReached    kind = "limit reached"
	orphaned        kind = "orphaned"
	holdChanged     kind = "hold changed"
	referenceSet    kind = "reference set"
	dialogueStopped kind = "dialogue stopped"
	legClosed       kind = "leg closed"
)

// kinds lists every event; the table test walks it.
var kinds = []kind{
	decided, legOpened, legFailed, acked, ackTimedOut, notAccepted, cancelled, byeReceived, hungUp, dialogueBegan,
	dialogueRefused, dialogueEnded, mediaTimedOut, mediaLost, limitReached, orphaned, holdChanged, referenceSet,
	dialogueStopped, legClosed,
}

type (
	// Decided is the application's answer to newCall, or what stands in for it.
	Decided struct{ Decision Decision }
	// LegOpened: mediad holds the leg.
	LegOpened struct{ MediaAddress, LegID, Codec string }
	// LegFailed: no leg, and the SIP answer that says why.
	LegFailed struct {
		Code   int
		Detail string
	}
	// Acked: the ACK of our 2xx came. InvalidSDP means that it should have
	// carried a usable answer to our offer and did not.
	// Codec is set where that answer chose it.
	Acked struct {
		InvalidSDP bool
		Codec      string
	}
	// NotAccepted: the 2xx did not go out; by Cancelled, as the caller had given
	// up, else for lack of a connection.
	NotAccepted struct{ Cancelled bool }
	// AckTimedOut: no ACK within 64*T1 (RFC 3261 §13.3.1.4).
	AckTimedOut struct{}
	// Cancelled: the caller gave up before our final answer.
	Cancelled struct{ Reason string }
	// ByeReceived: the far end hung up.
	ByeReceived struct{ Reason string }
	// HungUp: the API ends the call. Reason is for sessionCompleted.
	HungUp struct {
		Reason string
		// Shutdown: not the API but this daemon's end is the reason.
		Shutdown bool
	}
	// DialogueBegan: an ivrd has taken the participant.
	DialogueBegan struct{ Address string }
	// DialogueRefused: no ivrd could be had.
	DialogueRefused struct{ Detail string }
	// DialogueEnded: the dialogue is over, by the application's will or not.
	DialogueEnded struct {
		Grant  uint64
		Failed bool
		Detail string
	}
	// MediaTimedOut: no RTP for so long.
	MediaTimedOut struct{ Silence time.Duration }
	// MediaLost: the mediad that held the leg is gone.
	MediaLost struct{ Detail string }
	// LimitReached: the session is older than it may become.
	LimitReached struct{}
	// Orphaned: the owner died; another instance brings the books in order.
	Orphaned struct{}
	// HoldChanged: the far end put us on hold, or took us back.
	HoldChanged struct {
		Leg    uint8
		OnHold bool
	}
	// ReferenceSet: the application gave a new sessionReferenceId.
	ReferenceSet struct{ ReferenceID []byte }
	// DialogueStopped: nothing more will come of the dialogue.
	DialogueStopped struct{}
	// LegClosed: the leg is gone; its last figures.
	LegClosed struct{ RTP Statistics }
)

func (Decided) kind() kind         { return decided }
func (LegOpened) kind() kind       { return legOpened }
func (LegFailed) kind() kind       { return legFailed }
func (Acked) kind() kind           { return acked }
func (NotAccepted) kind() kind     { return notAccepted }
func (AckTimedOut) kind() kind     { return ackTimedOut }
func (Cancelled) kind() kind       { return cancelled }
func (ByeReceived) kind() kind     { return byeReceived }
func (HungUp) kind() kind          { return hungUp }
func (DialogueBegan) kind() kind   { return dialogueBegan }
func (DialogueRefused) kind() kind { return dialogueRefused }
func (DialogueEnded) kind() kind   { return dialogueEnded }
func (MediaTimedOut) kind() kind   { return mediaTimedOut }
func (MediaLost) kind() kind       { return mediaLost }
func (LimitReached) kind() kind    { return limitReached }
func (Orphaned) kind() kind        { return orphaned }
func (HoldChanged) kind() kind     { return holdChanged }
func (ReferenceSet) kind() kind    { return referenceSet }
func (DialogueStopped) kind() kind { return dialogueStopped }
func (LegClosed) kind() kind       { return legClosed }

// Action is what the application wants with a call (contract §1.5.1).
type Action string

// The actions that exist; the others end in an alarm.
const (
	ActionIVR  Action = "ivr"
	ActionDrop Action = "drop"
)

// Decision is what becomes of an inbound call.
type Decision struct {
	Action   Action
	DropCode DropCode
	// ReferenceID replaces the session's, if not nil.
	ReferenceID []byte
	// Command runs in place of the first getIvrCommand: the fallback's prompt.
	Command []byte
	// Alarms tell why the application's answer was not used.
	Alarms []Alarm
	// Failure is set when the application gave no usable answer.
	Failure string
}

// DropCode is the application's reason to refuse (contract §1.5.3).
type DropCode string

// The drop codes.
const (
	DropBusy        DropCode = "busy"
	DropError       DropCode = "error"
	DropNotFound    DropCode = "numberNotFound"
	DropNotActive   DropCode = "numberNotActive"
	DropNoMessage   DropCode = "dropNoMsg"
	DropUnavailable DropCode = "temporarilyUnavailable"
)

type dropping struct {
	code    int
	text    string
	outcome Outcome
}

// drops maps each drop code to its SIP answer and the session's outcome.
var drops = map[DropCode]dropping{
	DropBusy:        {486, "Busy Here", Busy},
	DropError:       {500, "Server Internal Error", Failed},
	DropNotFound:    {404, "Not Found", Failed},
	DropNotActive:   {410, "Gone", Failed},
	DropNoMessage:   {603, "Decline", External},
	DropUnavailable: {480, "Temporarily Unavailable", NoAnswer},
}

// Known tells whether the contract has the code.
func (d DropCode) Known() bool { _, ok := drops[d]; return ok }

// Alarm is a notification to the domain's alarm URL (contract §1.12).
type Alarm struct {
	Type, Error string
	// Details is a JSON value, or empty.
	Details string
	// OfCall adds status, participantId, user and callId, which callError has.
	OfCall bool
}
