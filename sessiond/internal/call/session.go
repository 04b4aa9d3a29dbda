// Package call is the life of one session as plain values: no sockets, no
// clock, no store, no SIP types. What must happen comes back as effects for
// control to carry out, so the place that a call has reached can be saved and
// resumed.
package call

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// State is what the APIs show of a session's progress.
type State string

// The states, in their order.
const (
	New        State = "new"
	Processing State = "processing"
	Ringing    State = "ringing"
	Connected  State = "connected"
	Ended      State = "ended"
)

// Outcome is how an ended session ended.
type Outcome string

// The outcomes, named as the Cloudonix contract does (§2.4).
const (
	Answer   Outcome = "answer"
	NoAnswer Outcome = "noanswer"
	Busy     Outcome = "busy"
	NoCredit Outcome = "nocredit"
	Cancel   Outcome = "cancel"
	External Outcome = "external"
	Failed   Outcome = "error"
)

// By is who ended a session.
type By string

// The parties that can end a session.
const (
	ByCaller By = "caller"
	ByCallee By = "callee"
	ByAPI    By = "api"
	BySystem By = "system"
	ByFraud  By = "fraud"
)

// Direction of a session relative to the domain.
type Direction string

// The directions (Cloudonix contract §2.3).
const (
	Incoming    Direction = "incoming"
	Outgoing    Direction = "outgoing"
	Internal    Direction = "internal"
	Application Direction = "application"
)

// Stage is the place in the machine, finer than State.
type Stage string

// The stages of an inbound call.
const (
	// Deciding: the application is asked what to do with the INVITE.
	Deciding Stage = "deciding"
	// Opening: the IVR shall answer; a media leg is being opened.
	Opening Stage = "opening"
	// Accepted: 2xx sent, ACK outstanding.
	Accepted Stage = "accepted"
	// Talking: the dialog is established and the dialogue runs.
	Talking Stage = "talking"
	// Closing: ended for the caller; dialogue and media are being wound up.
	Closing Stage = "closing"
	// Done: accounted for; nothing can happen any more.
	Done Stage = "done"
)

// Phase is where a participant's SIP dialog stands.
type Phase string

// The phases of a participant.
const (
	Invited     Phase = "invited"
	Answered    Phase = "accepted"
	Established Phase = "established"
	Gone        Phase = "gone"
)

// Mode says who commands a participant's leg.
type Mode string

// The modes of a leg.
const (
	Idle       Mode = "idle"
	InTone     Mode = "tone"
	InDialogue Mode = "dialogue"
	Bridged    Mode = "bridged"
	Held       Mode = "held"
	Winding    Mode = "closing"
)

// Session is one call. A copy is cheap enough to be made for each event;
// slices are replaced, never changed in place.
type Session struct {
	ID      uuid.UUID
	Number  int64
	Domain  string
	TraceID string
	// SIPCallID is the Call-ID of the first INVITE.
	SIPCallID string

	Direction Direction
	State     State
	Stage     Stage
	Outcome   Outcome
	Cause     Cause

	Created, Started, Answered, Ended, Modified time.Time

	Caller, Callee      Party
	Source, Destination Endpoint
	// Headers are the X- and P- headers of the INVITE, in order.
	Headers []Header
	Subject string

	TimeLimit time.Duration
	Callback  string
	// Routes, Profile and ReferenceID are JSON as given, byte for byte.
	Routes, Profile, ReferenceID json.RawMessage

	Participants []Participant
	Recordings   []string
	LastError    string
	// FirstCommand is what the dialogue runs before it asks: a fallback's prompt.
	FirstCommand json.RawMessage

	// CompletedReason is what sessionCompleted reports (contract §1.7).
	CompletedReason string
	// DialogueFlushed and LegsClosed say what the end still waits for.
	DialogueFlushed, LegsClosed bool
}

// Cause is why and by whom a session ended.
type Cause struct {
	// SIPCode refused the call; 0 when it ended by BYE.
	SIPCode int
	Text    string
	By      By
}

// Party is one end of the call as signalled.
type Party struct {
	Number      string
	DisplayName string
	// Private is true when the number shall be withheld (RFC 3323, RFC 3325).
	Private    bool
	Asserted   string
	DivertedBy []string
	ReferredBy string
	FromUser   string
}

// Endpoint is where a call comes from or goes to.
type Endpoint struct {
	Trunk, Subscriber, IP, UserAgent string
}

// Header is one SIP header field.
type Header struct{ Name, Value string }

// Participant is one party's leg of the session.
type Participant struct {
	ID    uuid.UUID
	Leg   uint8
	Phase Phase
	Mode  Mode
	// Grant fences who may command the leg: it grows with each change of Mode.
	Grant        uint64
	MediaAddress string
	LegID        string
	// DialogueAddress is the ivrd in charge, if one is.
	DialogueAddress string
	Codec           string
	OnHold          bool
	RTP             Statistics
}

// Statistics of a leg by RFC 3550; zero where never measured.
type Statistics struct {
	PacketsReceived, PacketsLost, PacketsSent, RemotePacketsLost uint64
	JitterMs, RoundTripMs, MOS, RemoteJitterMs                   float64
}

// Caller participant: the leg that the session began with.
func (s *Session) first() *Participant { return &s.Participants[0] }

// Participant returns the participant with the id.
func (s *Session) Participant(id uuid.UUID) (Participant, bool) {
	for _, p := range s.Participants {
		if p.ID == id {
			return p, true
		}
	}
	return Participant{}, false
}

// Leg returns the participant of the leg.
func (s *Session) Leg(n uint8) (Participant, bool) {
	for _, p := range s.Participants {
		if p.Leg == n {
			return p, true
		}
	}
	return Participant{}, false
}

// Status returns the state, or the outcome once ended (Cloudonix §2.4).
func (s *Session) Status() string {
	if s.State == Ended {
		return string(s.Outcome)
	}
	return string(s.State)
}
