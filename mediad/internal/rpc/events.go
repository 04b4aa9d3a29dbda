package rpc

import (
	"time"

	"github.com/callmesh/callmesh/mediad/internal/leg"
	"github.com/callmesh/callmesh/mediad/internal/watch"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// Bodies of events as the hub keeps them, small because 64 of each leg stay.
type (
	stepResult struct {
		step, digits, key, buffer string
		reason                    leg.Reason
		clip                      int
		position                  time.Duration
		playedAll                 bool
	}
	digit      struct{ key string }
	rtpTimeout struct{ silence time.Duration }
	legLost    struct{ reason string }
)

// Publish brings a shard's events to the hub.
func Publish(hub *watch.Hub) func(*leg.Event) {
	return func(e *leg.Event) {
		id := e.Of.Leg
		switch e.Kind {
		case leg.StepResult:
			hub.Publish(id, stepResult{
				step: e.Step, digits: e.Digits.String(), key: key(e.TerminationKey), buffer: e.Buffer.String(),
				reason: e.Reason, clip: e.ClipIndex, position: e.ClipPosition, playedAll: e.PlayedAll,
			})
		case leg.Digit:
			hub.Publish(id, digit{key(e.Key)})
		case leg.RTPTimeout:
			hub.Publish(id, rtpTimeout{e.Silence})
		case leg.Closed:
			if e.Lost != "" {
				hub.Publish(id, legLost{e.Lost})
			}
			hub.Remove(id)
		}
	}
}

func key(k byte) string {
	if k == 0 {
		return ""
	}
	return string([]byte{k})
}

var reasons = map[leg.Reason]mediapb.StepResult_Reason{
	leg.Done:           mediapb.StepResult_REASON_DONE,
	leg.TerminationKey: mediapb.StepResult_REASON_TERMINATION_KEY,
	leg.MaxDigits:      mediapb.StepResult_REASON_MAX_DIGITS,
	leg.FirstTimeout:   mediapb.StepResult_REASON_FIRST_TIMEOUT,
	leg.BetweenTimeout: mediapb.StepResult_REASON_BETWEEN_TIMEOUT,
	leg.Interrupted:    mediapb.StepResult_REASON_INTERRUPTED,
	leg.Revoked:        mediapb.StepResult_REASON_REVOKED,
}

func message(e *watch.Event) *mediapb.WatchResponse {
	m := &mediapb.WatchResponse{LegId: e.Leg, Sequence: e.Sequence, SessionId: e.Session, ParticipantId: e.Participant}
	switch b := e.Body.(type) {
	case stepResult:
		m.Event = &mediapb.WatchResponse_StepResult{StepResult: &mediapb.StepResult{
			StepId: b.step, Reason: reasons[b.reason], Digits: b.digits, TerminationKey: b.key, Buffer: b.buffer,
			ClipIndex: uint32(b.clip), ClipPosition: protoDuration(b.position), PlayedAll: b.playedAll,
		}}
	case digit:
		m.Event = &mediapb.WatchResponse_Digit{Digit: &mediapb.DigitReceived{Digit: b.key}}
	case rtpTimeout:
		m.Event = &mediapb.WatchResponse_RtpTimeout{RtpTimeout: &mediapb.RtpTimeout{Silence: protoDuration(b.silence)}}
	case legLost:
		m.Event = &mediapb.WatchResponse_LegLost{LegLost: &mediapb.LegLost{Reason: b.reason}}
	}
	return m
}
