package call

import (
	"errors"
	"fmt"
	"time"
)

// ErrDone is returned for events of a session that is accounted for.
var ErrDone = errors.New("the session is done")

// What sessionCompleted reports (contract §1.7).
const (
	reasonCallerDrop = "callingPartyDrop"
	reasonHangUp     = "hangup"
	reasonDrop       = "drop"
	reasonFailure    = "callFailure"
	reasonDuration   = "maxDuration"
	reasonError      = "error"
)

func onDecided(s *Session, ev Event) []Effect {
	d := ev.(Decided).Decision
	if d.ReferenceID != nil {
		s.ReferenceID = d.ReferenceID
	}
	effects := alarms(d.Alarms)
	s.LastError = d.Failure
	if d.Action == ActionIVR {
		s.State, s.Stage = Processing, Opening
		s.FirstCommand = d.Command
		return append(effects, OpenLeg{})
	}
	code := d.DropCode
	if !code.Known() {
		code = DropNoMessage
	}
	drop := drops[code]
	reason := reasonDrop
	if d.Failure != "" {
		reason = reasonError
	}
	effects = append(effects, Reject{Code: drop.code, Text: drop.text, Reason: fmt.Sprintf("SIP;cause=%d;text=%q", drop.code, string(code))})
	return append(effects, s.end(drop.outcome, Cause{SIPCode: drop.code, Text: drop.text, By: ByAPI}, reason)...)
}

func onCancelled(s *Session, ev Event) []Effect {
	return s.end(Cancel, Cause{SIPCode: 487, Text: "Request Terminated", By: ByCaller}, reasonCallerDrop)
}

// onNotAccepted takes back that the call was answered.
func onNotAccepted(s *Session, ev Event) []Effect {
	s.Answered = time.Time{}
	if ev.(NotAccepted).Cancelled {
		return s.end(Cancel, Cause{SIPCode: 487, Text: "Request Terminated", By: ByCaller}, reasonCallerDrop)
	}
	s.LastError = "the answer could not be sent"
	return s.end(Failed, Cause{Text: "answer not sent", By: BySystem}, reasonFailure)
}

// onRefused: REST hangupcall before the answer is 486 (contract §1.3 row 2).
func onRefused(s *Session, ev Event) []Effect {
	if ev.(HungUp).Shutdown {
		return append([]Effect{Reject{Code: 503, Text: "Service Unavailable"}},
			s.end(Failed, Cause{SIPCode: 503, Text: "Service Unavailable", By: BySystem}, reasonError)...)
	}
	return append([]Effect{Reject{Code: 486, Text: "Busy Here"}},
		s.end(External, Cause{SIPCode: 486, Text: "Busy Here", By: ByAPI}, ev.(HungUp).reason())...)
}

func (h HungUp) reason() string {
	switch {
	case h.Shutdown:
		return reasonError
	case h.Reason == "":
		return reasonHangUp
	}
	return h.Reason
}

func onLegOpened(s *Session, ev Event) []Effect {
	opened := ev.(LegOpened)
	p := s.first()
	p.MediaAddress, p.LegID, p.Codec, p.Phase = opened.MediaAddress, opened.LegID, opened.Codec, Answered
	s.State, s.Stage = Connected, Accepted
	return []Effect{Accept{}}
}

func onLegFailed(s *Session, ev Event) []Effect {
	failed := ev.(LegFailed)
	s.LastError, s.LegsClosed = failed.Detail, true
	text := map[int]string{488: "Not Acceptable Here", 503: "Service Unavailable"}[failed.Code]
	effects := []Effect{Reject{Code: failed.Code, Text: text}}
	if failed.Code == 488 {
		effects = append(effects, alarm(Alarm{Type: "callError", Error: "invalidSdp", OfCall: true}))
	}
	return append(effects, s.end(Failed, Cause{SIPCode: failed.Code, Text: text, By: BySystem}, reasonFailure)...)
}

func onAcked(s *Session, ev Event) []Effect {
	p := s.first()
	p.Phase = Established
	if codec := ev.(Acked).Codec; codec != "" {
		p.Codec = codec
	}
	if ev.(Acked).InvalidSDP {
		s.LastError = "the ACK carried no usable SDP answer"
		return append([]Effect{alarm(Alarm{Type: "callError", Error: "invalidSdp", OfCall: true}), SendBye{Reason: "SIP;cause=488;text=\"invalidSdp\""}},
			s.end(Failed, Cause{Text: "invalid SDP", By: BySystem}, reasonFailure)...)
	}
	p.Mode = InDialogue
	s.Stage = Talking
	command := s.FirstCommand
	s.FirstCommand = nil
	return []Effect{StartDialogue{Participant: p.ID, Command: command}}
}

func onAckTimedOut(s *Session, _ Event) []Effect {
	s.LastError = "no ACK was received"
	return append([]Effect{SendBye{Reason: "SIP;cause=408;text=\"ACK timeout\""}},
		s.end(Failed, Cause{SIPCode: 408, Text: "ACK timeout", By: BySystem}, reasonFailure)...)
}

func onBye(s *Session, ev Event) []Effect {
	return s.end(Answer, Cause{Text: ev.(ByeReceived).Reason, By: ByCaller}, reasonCallerDrop)
}

func onHungUp(s *Session, ev Event) []Effect {
	by := ByAPI
	if ev.(HungUp).Shutdown {
		by = BySystem
	}
	return append([]Effect{SendBye{}}, s.end(Answer, Cause{By: by}, ev.(HungUp).reason())...)
}

func onDialogueBegan(s *Session, ev Event) []Effect {
	s.first().DialogueAddress = ev.(DialogueBegan).Address
	return nil
}

func onDialogueEnded(s *Session, ev Event) []Effect {
	ended := ev.(DialogueEnded)
	if ended.Grant < s.first().Grant {
		return nil // another mode has taken the leg since
	}
	if ended.Failed {
		s.LastError = ended.Detail
		return append([]Effect{SendBye{Reason: "SIP;cause=500;text=\"IVR failed\""}},
			s.end(Failed, Cause{Text: ended.Detail, By: BySystem}, reasonError)...)
	}
	return append([]Effect{SendBye{}}, s.end(Answer, Cause{By: ByAPI}, reasonHangUp)...)
}

func onMediaTimedOut(s *Session, ev Event) []Effect {
	s.LastError = fmt.Sprintf("no RTP was received for %.0f s", ev.(MediaTimedOut).Silence.Seconds())
	return append([]Effect{
		alarm(Alarm{Type: "callError", Error: "RTP media timeout", OfCall: true}),
		SendBye{Reason: "SIP;cause=408;text=\"RTP media timeout\""},
	}, s.end(Answer, Cause{Text: "RTP media timeout", By: BySystem}, reasonFailure)...)
}

func onMediaLost(s *Session, ev Event) []Effect {
	s.LastError = ev.(MediaLost).Detail
	effects := []Effect{
		alarm(Alarm{Type: "ivrCommandError", Error: "mediaServerError"}),
		SendBye{Reason: "SIP;cause=503;text=\"media lost\""},
	}
	// The leg died with its mediad: nothing is left to close.
	s.LegsClosed = true
	return append(effects, s.end(Failed, Cause{Text: "media lost", By: BySystem}, reasonFailure)...)
}

func onLimit(s *Session, _ Event) []Effect {
	effects := []Effect{alarm(Alarm{Type: "sessionError", Error: "maxDuration"})}
	cause, outcome := Cause{Text: "maximum duration", By: BySystem}, Answer
	if s.State == Connected {
		effects = append(effects, SendBye{Reason: "SIP;cause=408;text=\"maxDuration\""})
	} else {
		effects = append(effects, Reject{Code: 480, Text: "Temporarily Unavailable"})
		cause.SIPCode, outcome = 480, NoAnswer
	}
	return append(effects, s.end(outcome, cause, reasonDuration)...)
}

// onOrphaned brings the books of a session in order whose owner died. The call
// itself is given up: a BYE tells the far end, should it still be there.
func onOrphaned(s *Session, _ Event) []Effect {
	var effects []Effect
	if s.Stage == Accepted || s.Stage == Talking {
		effects = append(effects, SendBye{Reason: "SIP;cause=503;text=\"instance lost\""})
	}
	if s.Stage == Closing {
		s.DialogueFlushed, s.LegsClosed = true, true
		return s.complete()
	}
	s.LastError = "the instance that held the call was lost"
	// What the dead instance had begun and not stored reports to nobody.
	p := s.first()
	s.LegsClosed = p.LegID == ""
	if p.DialogueAddress == "" && p.Mode == InDialogue {
		p.Mode = Idle
	}
	return append(effects, s.end(Failed, Cause{Text: "instance lost", By: BySystem}, reasonError)...)
}

func onHold(s *Session, ev Event) []Effect {
	hold := ev.(HoldChanged)
	for i := range s.Participants {
		if s.Participants[i].Leg == hold.Leg {
			s.Participants[i].OnHold = hold.OnHold
		}
	}
	return nil
}

func onReference(s *Session, ev Event) []Effect {
	s.ReferenceID = ev.(ReferenceSet).ReferenceID
	return nil
}

// end enters Closing: the caller's side is over. The session is accounted for
// when dialogue and media have been wound up (design: end of a session).
func (s *Session) end(outcome Outcome, cause Cause, reason string) []Effect {
	p := s.first()
	opening, talking := s.Stage == Opening, p.Mode == InDialogue
	s.State, s.Stage, s.Outcome, s.Cause, s.CompletedReason = Ended, Closing, outcome, cause, reason
	s.FirstCommand = nil
	p.Phase, p.Mode = Gone, Winding
	p.Grant++
	s.DialogueFlushed = !talking
	s.LegsClosed = s.LegsClosed || (p.LegID == "" && !opening)
	switch {
	case talking && p.DialogueAddress != "":
		// The leg outlives the dialogue: what it collected last is asked for first.
		return []Effect{StopDialogue{Participant: p.ID}}
	case talking, opening && !s.LegsClosed:
		return nil // what was begun reports back, and is wound up then
	case !s.LegsClosed:
		return []Effect{CloseLeg{Participant: p.ID}}
	}
	return s.complete()
}

func onDialogueStopped(s *Session, _ Event) []Effect {
	s.DialogueFlushed = true
	if !s.LegsClosed {
		return []Effect{CloseLeg{Participant: s.first().ID}}
	}
	return s.complete()
}

func onLegClosed(s *Session, ev Event) []Effect {
	s.first().RTP = ev.(LegClosed).RTP
	s.LegsClosed = true
	return s.complete()
}

// complete accounts for the session once nothing is outstanding: exactly one
// sessionCompleted and one archive row, in the write that makes it Done.
func (s *Session) complete() []Effect {
	if !s.DialogueFlushed || !s.LegsClosed {
		return nil
	}
	s.Stage = Done
	return []Effect{Notify{Kind: SessionCompleted}, Archive{}}
}

// onLateLeg gives back a leg that was opened for a call that ended meanwhile.
func onLateLeg(s *Session, ev Event) []Effect {
	opened := ev.(LegOpened)
	p := s.first()
	p.MediaAddress, p.LegID = opened.MediaAddress, opened.LegID
	return []Effect{CloseLeg{Participant: p.ID}}
}

func onLateLegFailure(s *Session, _ Event) []Effect {
	s.LegsClosed = true
	return s.complete()
}

func onLateDialogue(s *Session, ev Event) []Effect {
	s.first().DialogueAddress = ev.(DialogueBegan).Address
	return []Effect{StopDialogue{Participant: s.first().ID}}
}

func onDialogueRefused(s *Session, ev Event) []Effect {
	s.LastError = ev.(DialogueRefused).Detail
	s.first().Mode = Idle // nothing was begun that would have to be stopped
	return append([]Effect{alarm(Alarm{Type: "ivrCommandError", Error: "IVR command failed"}), SendBye{Reason: "SIP;cause=503;text=\"IVR unavailable\""}},
		s.end(Failed, Cause{Text: "IVR unavailable", By: BySystem}, reasonError)...)
}

func alarm(a Alarm) Effect { return Notify{Kind: AlarmRaised, Alarm: a} }

func alarms(as []Alarm) []Effect {
	effects := make([]Effect, len(as))
	for i, a := range as {
		effects[i] = alarm(a)
	}
	return effects
}
