package call

import "github.com/google/uuid"

// Effect is work that an event asks for.
type Effect interface{ effect() }

type (
	// OpenLeg asks mediad for a leg; LegOpened or LegFailed follows.
	OpenLeg struct{}
	// Accept sends 200 with our description; Acked or AckTimedOut follows.
	Accept struct{}
	// Reject sends a final refusal of the INVITE.
	Reject struct {
		Code int
		Text string
		// Reason is the value of a Reason header (RFC 3326), or empty.
		Reason string
	}
	// SendBye ends the dialog.
	SendBye struct{ Reason string }
	// StartDialogue hands the participant to an ivrd; DialogueBegan or
	// DialogueRefused follows.
	StartDialogue struct {
		Participant uuid.UUID
		Command     []byte
	}
	// StopDialogue revokes it; DialogueStopped follows.
	StopDialogue struct{ Participant uuid.UUID }
	// CloseLeg frees the media; LegClosed follows.
	CloseLeg struct{ Participant uuid.UUID }
	// Notify goes into the session's lanes, in the same write as the session.
	Notify struct {
		Kind  Notification
		Alarm Alarm
	}
	// Archive hands the session to the archiver, in the same write.
	Archive struct{}
)

// Notification is a kind of message to the customer that must arrive.
type Notification string

// The notifications that a session makes by itself.
const (
	SessionCompleted Notification = "sessionCompleted"
	AlarmRaised      Notification = "alarm"
)

func (OpenLeg) effect()       {}
func (Accept) effect()        {}
func (Reject) effect()        {}
func (SendBye) effect()       {}
func (StartDialogue) effect() {}
func (StopDialogue) effect()  {}
func (CloseLeg) effect()      {}
func (Notify) effect()        {}
func (Archive) effect()       {}
