package call

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

type edge struct {
	at Stage
	on kind
}

// turn changes the session by the event and returns what is to be done.
type turn func(s *Session, ev Event) []Effect

// graph is the whole machine. An edge that is not here cannot happen: Apply
// reports it. Races that SIP or our own daemons allow are rows of their own,
// each with what makes it harmless.
var graph = map[edge]turn{
	{Deciding, decided}:      onDecided,
	{Deciding, cancelled}:    onCancelled,
	{Deciding, hungUp}:       onRefused,
	{Deciding, limitReached}: onLimit,
	{Deciding, orphaned}:     onOrphaned,
	// A BYE before our final answer would be the caller's early dialog ending
	// (RFC 3261 §15.1.2): the INVITE gets 487.
	{Deciding, byeReceived}: onCancelled,

	{Opening, legOpened}:    onLegOpened,
	{Opening, legFailed}:    onLegFailed,
	{Opening, cancelled}:    onCancelled,
	{Opening, byeReceived}:  onCancelled,
	{Opening, hungUp}:       onRefused,
	{Opening, limitReached}: onLimit,
	{Opening, orphaned}:     onOrphaned,

	{Accepted, acked}:       onAcked,
	{Accepted, ackTimedOut}: onAckTimedOut,
	// The caller hung up before its ACK reached us (BYE overtakes ACK on UDP).
	{Accepted, byeReceived}: onBye,
	{Accepted, notAccepted}: onNotAccepted,
	// CANCEL crossed our 2xx: it has no effect (RFC 3261 §9.2), BYE follows.
	{Accepted, cancelled}:     ignore,
	{Accepted, hungUp}:        onHungUp,
	{Accepted, mediaTimedOut}: onMediaTimedOut,
	{Accepted, mediaLost}:     onMediaLost,
	{Accepted, limitReached}:  onLimit,
	{Accepted, orphaned}:      onOrphaned,
	{Accepted, holdChanged}:   onHold,

	{Talking, dialogueBegan}:   onDialogueBegan,
	{Talking, dialogueRefused}: onDialogueRefused,
	{Talking, dialogueEnded}:   onDialogueEnded,
	{Talking, byeReceived}:     onBye,
	{Talking, hungUp}:          onHungUp,
	{Talking, mediaTimedOut}:   onMediaTimedOut,
	{Talking, mediaLost}:       onMediaLost,
	{Talking, limitReached}:    onLimit,
	{Talking, orphaned}:        onOrphaned,
	{Talking, holdChanged}:     onHold,
	{Talking, referenceSet}:    onReference,
	// The ACK of a retransmitted 2xx, or of a re-INVITE.
	{Talking, acked}: ignore,
	// No ACK for the 2xx of a re-INVITE: the dialog is to be ended (RFC 3261 §14.2).
	{Talking, ackTimedOut}: onAckTimedOut,
	{Talking, cancelled}:   ignore,

	{Closing, dialogueStopped}: onDialogueStopped,
	{Closing, legClosed}:       onLegClosed,
	// The leg was opened for a call that has ended meanwhile: give it back.
	{Closing, legOpened}: onLateLeg,
	{Closing, legFailed}: onLateLegFailure,
	// An ivrd took the participant after the end: it must let go again.
	{Closing, dialogueBegan}:   onLateDialogue,
	{Closing, dialogueRefused}: onDialogueStopped,
	// Both sides hung up at once, or a timer fired beside the end.
	{Closing, byeReceived}:   ignore,
	{Closing, cancelled}:     ignore,
	{Closing, hungUp}:        ignore,
	{Closing, acked}:         ignore,
	{Closing, ackTimedOut}:   ignore,
	{Closing, notAccepted}:   ignore,
	{Closing, dialogueEnded}: ignore,
	{Closing, mediaTimedOut}: ignore,
	{Closing, mediaLost}:     ignore,
	{Closing, limitReached}:  ignore,
	{Closing, holdChanged}:   ignore,
	{Closing, referenceSet}:  ignore,
	// The owner died in the middle of winding up.
	{Closing, orphaned}: onOrphaned,
}

// Apply returns the session after ev, and what is to be done about it. s is
// not changed. An event for a session that is done is ErrDone; one that the
// machine has no edge for is an error that names both.
func (s Session) Apply(ev Event, at time.Time) (Session, []Effect, error) {
	if s.Stage == Done {
		return s, nil, ErrDone
	}
	do, ok := graph[edge{s.Stage, ev.kind()}]
	if !ok {
		return s, nil, fmt.Errorf("session %s: %s while %s", s.ID, ev.kind(), s.Stage)
	}
	next := s
	next.Participants = slices.Clone(s.Participants)
	effects := do(&next, ev)
	next.Modified = at
	if next.State == Connected && next.Answered.IsZero() {
		next.Answered = at
	}
	if next.State == Ended && next.Ended.IsZero() {
		next.Ended = at
	}
	return next, effects, nil
}

// Invite returns s as a new inbound session, whose first participant is the
// caller. It is saved before the application is asked to decide.
func Invite(s Session, participant uuid.UUID, at time.Time) Session {
	s.Direction, s.State, s.Stage = Incoming, New, Deciding
	s.Created, s.Started, s.Modified = at, at, at
	s.Participants = []Participant{{ID: participant, Leg: 1, Phase: Invited, Mode: Idle, Grant: 1}}
	return s
}

func ignore(*Session, Event) []Effect { return nil }

// Repeatable tells of events that a stranger can cause at will and whose loss
// does no harm.
func Repeatable(ev Event) bool {
	switch ev.(type) {
	case HoldChanged, ReferenceSet:
		return true
	}
	return false
}

// Volatile tells of steps that change nothing which a fresh instance could not
// find out by itself, and so need not be stored on their own.
func Volatile(ev Event, before, after Session) bool {
	_, stopped := ev.(DialogueStopped)
	return stopped && before.Stage == after.Stage
}
