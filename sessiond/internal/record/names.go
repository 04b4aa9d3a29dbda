package record

import (
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
)

// names pairs the values of a call type with those of its enum. What has no
// pair is the zero value on either side.
type names[C, P comparable] []struct {
	c C
	p P
}

func (ns names[C, P]) pb(c C) (p P) {
	for _, n := range ns {
		if n.c == c {
			return n.p
		}
	}
	return p
}

func (ns names[C, P]) call(p P) (c C) {
	for _, n := range ns {
		if n.p == p {
			return n.c
		}
	}
	return c
}

var directions = names[call.Direction, sessionpb.Session_Direction]{
	{call.Incoming, sessionpb.Session_DIRECTION_INCOMING},
	{call.Outgoing, sessionpb.Session_DIRECTION_OUTGOING},
	{call.Internal, sessionpb.Session_DIRECTION_INTERNAL},
	{call.Application, sessionpb.Session_DIRECTION_APPLICATION},
}

var states = names[call.State, sessionpb.Session_State]{
	{call.New, sessionpb.Session_STATE_NEW},
	{call.Processing, sessionpb.Session_STATE_PROCESSING},
	{call.Ringing, sessionpb.Session_STATE_RINGING},
	{call.Connected, sessionpb.Session_STATE_CONNECTED},
	{call.Ended, sessionpb.Session_STATE_ENDED},
}

var outcomes = names[call.Outcome, sessionpb.Session_Outcome]{
	{call.Answer, sessionpb.Session_OUTCOME_ANSWER},
	{call.NoAnswer, sessionpb.Session_OUTCOME_NOANSWER},
	{call.Busy, sessionpb.Session_OUTCOME_BUSY},
	{call.NoCredit, sessionpb.Session_OUTCOME_NOCREDIT},
	{call.Cancel, sessionpb.Session_OUTCOME_CANCEL},
	{call.External, sessionpb.Session_OUTCOME_EXTERNAL},
	{call.Failed, sessionpb.Session_OUTCOME_ERROR},
}

var parties = names[call.By, sessionpb.Cause_By]{
	{call.ByCaller, sessionpb.Cause_BY_CALLER},
	{call.ByCallee, sessionpb.Cause_BY_CALLEE},
	{call.ByAPI, sessionpb.Cause_BY_API},
	{call.BySystem, sessionpb.Cause_BY_SYSTEM},
	{call.ByFraud, sessionpb.Cause_BY_FRAUD},
}

var phases = names[call.Phase, sessionpb.Participant_Phase]{
	{call.Invited, sessionpb.Participant_PHASE_INVITED},
	{call.Answered, sessionpb.Participant_PHASE_ACCEPTED},
	{call.Established, sessionpb.Participant_PHASE_ESTABLISHED},
	{call.Gone, sessionpb.Participant_PHASE_GONE},
}

var modes = names[call.Mode, sessionpb.Participant_Mode]{
	{call.Idle, sessionpb.Participant_MODE_IDLE},
	{call.InTone, sessionpb.Participant_MODE_TONE},
	{call.InDialogue, sessionpb.Participant_MODE_DIALOGUE},
	{call.Bridged, sessionpb.Participant_MODE_BRIDGED},
	{call.Held, sessionpb.Participant_MODE_HELD},
	{call.Winding, sessionpb.Participant_MODE_CLOSING},
}
