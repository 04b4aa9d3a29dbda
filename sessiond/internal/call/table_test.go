package call

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

var (
	start = time.UnixMilli(1_700_000_000_000)
	later = start.Add(42 * time.Second)
)

// at returns a session that has reached the stage by its usual way.
func at(t *testing.T, stage Stage) Session {
	t.Helper()
	s := Invite(Session{ID: uuid.New(), Domain: "demo.test"}, uuid.New(), start)
	way := []struct {
		reach Stage
		by    Event
	}{
		{Opening, Decided{Decision{Action: ActionIVR}}},
		{Accepted, LegOpened{MediaAddress: "m", LegID: "leg", Codec: "PCMU"}},
		{Talking, Acked{}},
		{"begun", DialogueBegan{Address: "ivrd"}},
		{Closing, ByeReceived{}},
	}
	for _, step := range way {
		if s.Stage == stage {
			return s
		}
		next, _, err := s.Apply(step.by, later)
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	if s.Stage != stage {
		t.Fatalf("no way to %s", stage)
	}
	return s
}

func names(effects []Effect) string {
	out := make([]string, len(effects))
	for i, e := range effects {
		out[i] = reflect.TypeOf(e).Name()
		switch e := e.(type) {
		case Reject:
			out[i] += fmt.Sprint(" ", e.Code)
		case Notify:
			out[i] = string(e.Kind)
			if e.Alarm.Error != "" {
				out[i] += " " + e.Alarm.Error
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestTransitions(t *testing.T) {
	ivr := Decided{Decision{Action: ActionIVR}}
	drop := func(code DropCode) Decided { return Decided{Decision{Action: ActionDrop, DropCode: code}} }
	const end = "sessionCompleted, Archive"
	for _, tc := range []struct {
		at      Stage
		on      Event
		to      Stage
		status  string
		effects string
	}{
		{Deciding, ivr, Opening, "processing", "OpenLeg"},
		{Deciding, drop(DropBusy), Done, "busy", "Reject 486, " + end},
		{Deciding, drop(DropError), Done, "error", "Reject 500, " + end},
		{Deciding, drop(DropNotFound), Done, "error", "Reject 404, " + end},
		{Deciding, drop(DropNotActive), Done, "error", "Reject 410, " + end},
		{Deciding, drop(DropNoMessage), Done, "external", "Reject 603, " + end},
		{Deciding, drop(DropUnavailable), Done, "noanswer", "Reject 480, " + end},
		{Deciding, drop(""), Done, "external", "Reject 603, " + end},
		{Deciding, Decided{Decision{Action: ActionDrop, DropCode: DropError, Failure: "down", Alarms: []Alarm{{Error: "newCall request failed"}}}},
			Done, "error", "alarm newCall request failed, Reject 500, " + end},
		{Deciding, Cancelled{}, Done, "cancel", end},
		{Deciding, ByeReceived{}, Done, "cancel", end},
		{Deciding, HungUp{}, Done, "external", "Reject 486, " + end},
		{Deciding, LimitReached{}, Done, "noanswer", "alarm maxDuration, Reject 480, " + end},
		{Deciding, Orphaned{}, Done, "error", end},

		{Opening, LegOpened{LegID: "leg"}, Accepted, "connected", "Accept"},
		{Opening, LegFailed{Code: 503}, Done, "error", "Reject 503, " + end},
		{Opening, LegFailed{Code: 488}, Done, "error", "Reject 488, alarm invalidSdp, " + end},
		{Opening, Cancelled{}, Closing, "cancel", ""},
		{Opening, HungUp{}, Closing, "external", "Reject 486"},

		{Accepted, Acked{}, Talking, "connected", "StartDialogue"},
		{Accepted, Acked{InvalidSDP: true}, Closing, "error", "alarm invalidSdp, SendBye, CloseLeg"},
		{Accepted, AckTimedOut{}, Closing, "error", "SendBye, CloseLeg"},
		{Accepted, ByeReceived{}, Closing, "answer", "CloseLeg"},
		{Accepted, Cancelled{}, Accepted, "connected", ""},
		{Accepted, HungUp{}, Closing, "answer", "SendBye, CloseLeg"},
		{Accepted, MediaLost{}, Done, "error", "alarm mediaServerError, SendBye, " + end},

		// Talking, with the ivrd's address still unknown: Start is on its way.
		{Talking, DialogueBegan{Address: "a"}, Talking, "connected", ""},
		{Talking, DialogueRefused{}, Closing, "error", "alarm IVR command failed, SendBye, CloseLeg"},
		{Talking, ByeReceived{}, Closing, "answer", ""},
		{Talking, DialogueEnded{Grant: 1}, Closing, "answer", "SendBye"},
		{Talking, DialogueEnded{Grant: 0}, Talking, "connected", ""},
		{Talking, DialogueEnded{Grant: 1, Failed: true}, Closing, "error", "SendBye"},
		{Talking, MediaTimedOut{Silence: time.Minute}, Closing, "answer", "alarm RTP media timeout, SendBye"},
		{Talking, LimitReached{}, Closing, "answer", "alarm maxDuration, SendBye"},
		// What the dead owner had begun reports to nobody.
		{Talking, Orphaned{}, Closing, "error", "SendBye, CloseLeg"},
		{Opening, Orphaned{}, Done, "error", end},
		{Talking, AckTimedOut{}, Closing, "error", "SendBye"},
		{Talking, HungUp{Shutdown: true}, Closing, "answer", "SendBye"},
		{Deciding, HungUp{Shutdown: true}, Done, "error", "Reject 503, " + end},
		{Accepted, NotAccepted{Cancelled: true}, Closing, "cancel", "CloseLeg"},
		{Accepted, NotAccepted{}, Closing, "error", "CloseLeg"},

		{Closing, DialogueStopped{}, Closing, "answer", "CloseLeg"},
		{Closing, ByeReceived{}, Closing, "answer", ""},
		{Closing, Orphaned{}, Done, "answer", end},
	} {
		t.Run(fmt.Sprintf("%s/%s", tc.at, tc.on.kind()), func(t *testing.T) {
			before := at(t, tc.at)
			got, effects, err := before.Apply(tc.on, later)
			if err != nil {
				t.Fatal(err)
			}
			if got.Stage != tc.to || got.Status() != tc.status || names(effects) != tc.effects {
				t.Errorf("to %s (%s) with [%s], want %s (%s) with [%s]", got.Stage, got.Status(), names(effects), tc.to, tc.status, tc.effects)
			}
			if before.Stage != tc.at {
				t.Error("Apply changed its receiver")
			}
		})
	}
}

func TestALegOpenedForACallThatEndedIsGivenBack(t *testing.T) {
	s := at(t, Opening)
	s, _, _ = s.Apply(Cancelled{}, later)
	s, effects, err := s.Apply(LegOpened{LegID: "leg"}, later)
	if err != nil || names(effects) != "CloseLeg" {
		t.Fatalf("%s, %v", names(effects), err)
	}
	s, effects, err = s.Apply(LegClosed{}, later)
	if err != nil || s.Stage != Done || names(effects) != "sessionCompleted, Archive" {
		t.Errorf("%s: %s, %v", s.Stage, names(effects), err)
	}
}

func TestADialogueBegunForACallThatEndedIsStopped(t *testing.T) {
	s := at(t, Talking)
	s, _, _ = s.Apply(ByeReceived{}, later)
	s, effects, err := s.Apply(DialogueBegan{Address: "ivrd"}, later)
	if err != nil || names(effects) != "StopDialogue" {
		t.Fatalf("%s, %v", names(effects), err)
	}
	if p, _ := s.Leg(1); p.DialogueAddress != "ivrd" {
		t.Error("the ivrd to stop is not known")
	}
}

// sample has one event of each kind.
var sample = map[kind]Event{
	decided: Decided{Decision{Action: ActionIVR}}, legOpened: LegOpened{LegID: "leg"}, legFailed: LegFailed{Code: 503},
	notAccepted: NotAccepted{Cancelled: true},
	acked:       Acked{}, ackTimedOut: AckTimedOut{}, cancelled: Cancelled{}, byeReceived: ByeReceived{}, hungUp: HungUp{},
	dialogueBegan: DialogueBegan{Address: "a"}, dialogueRefused: DialogueRefused{}, dialogueEnded: DialogueEnded{Grant: 1},
	mediaTimedOut: MediaTimedOut{}, mediaLost: MediaLost{}, limitReached: LimitReached{}, orphaned: Orphaned{},
	holdChanged: HoldChanged{Leg: 1, OnHold: true}, referenceSet: ReferenceSet{ReferenceID: []byte("1")},
	dialogueStopped: DialogueStopped{}, legClosed: LegClosed{},
}

// impossible says for each event where it cannot happen, and so has no edge.
var impossible = map[kind][]Stage{
	decided:         {Opening, Accepted, Talking, Closing},
	legOpened:       {Deciding, Accepted, Talking},
	legFailed:       {Deciding, Accepted, Talking},
	acked:           {Deciding, Opening},
	ackTimedOut:     {Deciding, Opening},
	notAccepted:     {Deciding, Opening, Talking},
	dialogueBegan:   {Deciding, Opening, Accepted},
	dialogueRefused: {Deciding, Opening, Accepted},
	dialogueEnded:   {Deciding, Opening, Accepted},
	mediaTimedOut:   {Deciding, Opening},
	mediaLost:       {Deciding, Opening},
	holdChanged:     {Deciding, Opening},
	referenceSet:    {Deciding, Opening, Accepted},
	dialogueStopped: {Deciding, Opening, Accepted, Talking},
	legClosed:       {Deciding, Opening, Accepted, Talking},
}

func TestEveryEventHasAPlaceInEveryStage(t *testing.T) {
	if len(sample) != len(kinds) {
		t.Fatalf("%d samples of %d kinds", len(sample), len(kinds))
	}
	for _, k := range kinds {
		for _, stage := range []Stage{Deciding, Opening, Accepted, Talking, Closing} {
			_, _, err := at(t, stage).Apply(sample[k], later)
			cannot := slices.Contains(impossible[k], stage)
			if (err != nil) != cannot {
				t.Errorf("%s at %s: err %v, impossible %v", k, stage, err, cannot)
			}
		}
		s := at(t, Closing)
		s.Stage = Done
		if _, _, err := s.Apply(sample[k], later); !errors.Is(err, ErrDone) {
			t.Errorf("%s when done: %v", k, err)
		}
	}
}

// Whatever happens in whatever order, a session is accounted for exactly once,
// its leg is closed at most once, and an ended session never comes back.
func TestEverySessionIsAccountedForOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := Invite(Session{ID: uuid.New()}, uuid.New(), start)
		var seen []Effect
		outstanding := map[kind]bool{decided: true}
		for range 60 {
			k := rapid.SampledFrom(kinds).Draw(rt, "event")
			// What answers an effect comes once, after it.
			if slices.Contains([]kind{decided, legOpened, legFailed, dialogueBegan, dialogueRefused, dialogueStopped, legClosed}, k) {
				if !outstanding[k] {
					continue
				}
				for _, pair := range [][2]kind{{legOpened, legFailed}, {dialogueBegan, dialogueRefused}} {
					if k == pair[0] || k == pair[1] {
						outstanding[pair[0]], outstanding[pair[1]] = false, false
					}
				}
				outstanding[k] = false
			}
			next, effects, err := s.Apply(sample[k], later)
			if errors.Is(err, ErrDone) {
				break
			}
			if err != nil {
				continue
			}
			if s.State == Ended && next.State != Ended {
				rt.Fatalf("an ended session came back by %s", k)
			}
			s, seen = next, append(seen, effects...)
			if k == orphaned { // reports went to the dead owner
				clear(outstanding)
			}
			for _, e := range effects {
				switch e.(type) {
				case OpenLeg:
					outstanding[legOpened], outstanding[legFailed] = true, true
				case StartDialogue:
					outstanding[dialogueBegan], outstanding[dialogueRefused] = true, true
				case StopDialogue:
					outstanding[dialogueStopped] = true
				case CloseLeg:
					outstanding[legClosed] = true
				}
			}
		}
		// Let everything outstanding report, and the caller hang up.
		for _, k := range []kind{decided, legFailed, acked, byeReceived, dialogueBegan, dialogueStopped, legClosed, dialogueBegan, dialogueStopped, legClosed} {
			if slices.Contains([]kind{decided, legFailed, dialogueBegan, dialogueStopped, legClosed}, k) && !outstanding[k] {
				continue
			}
			outstanding[k] = false
			next, effects, err := s.Apply(sample[k], later)
			if err != nil {
				continue
			}
			s, seen = next, append(seen, effects...)
			for _, e := range effects {
				switch e.(type) {
				case OpenLeg:
					outstanding[legFailed] = true
				case StartDialogue:
					outstanding[dialogueBegan] = true
				case StopDialogue:
					outstanding[dialogueStopped] = true
				case CloseLeg:
					outstanding[legClosed] = true
				}
			}
		}
		count := func(match func(Effect) bool) (n int) {
			for _, e := range seen {
				if match(e) {
					n++
				}
			}
			return n
		}
		if s.Stage != Done {
			rt.Fatalf("stuck at %s after [%s], outstanding %v", s.Stage, names(seen), outstanding)
		}
		completed := count(func(e Effect) bool { n, ok := e.(Notify); return ok && n.Kind == SessionCompleted })
		archived := count(func(e Effect) bool { _, ok := e.(Archive); return ok })
		closed := count(func(e Effect) bool { _, ok := e.(CloseLeg); return ok })
		if completed != 1 || archived != 1 || closed > 1 {
			rt.Fatalf("completed %d, archived %d, legs closed %d: [%s]", completed, archived, closed, names(seen))
		}
	})
}

func TestTimesAreSetOnce(t *testing.T) {
	s := at(t, Closing)
	if s.Answered != later || s.Ended != later || s.Created != start {
		t.Errorf("created %v answered %v ended %v", s.Created, s.Answered, s.Ended)
	}
	again, _, _ := s.Apply(DialogueStopped{}, later.Add(time.Hour))
	if again.Ended != later {
		t.Error("ended moved")
	}
}
