package cycle_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/callmesh/callmesh/ivrd/internal/command"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
)

var t0 = time.Unix(1_800_000_000, 0)

func seconds(n float64) *time.Duration {
	d := time.Duration(n * float64(time.Second))
	return &d
}

var (
	clip   = cycle.Clip{ID: "c1"}
	digits = &command.DTMF{MaxDigits: 1, FirstTimeout: 10 * time.Second, BetweenTimeout: 5 * time.Second}
	md5    = &command.DTMF{MaxDigits: 4, Encryption: &command.Encryption{Type: "md5", Salt: "pepper"}}
)

// at returns a dialogue of grant 7 that has come to the place with the command.
func at(place cycle.Place, cmd *command.Command) cycle.State {
	s := cycle.Begin(7)
	s.Place, s.Command, s.Asked = place, cmd, t0
	if place == cycle.Playing {
		s.Attempt = 1
	}
	return s
}

// TestSteps: what the leg is told for each kind of command.
func TestSteps(t *testing.T) {
	one := []cycle.Clip{clip}
	tests := []struct {
		name  string
		cmd   command.Command
		clips []cycle.Clip
		bg    *cycle.Clip
		want  cycle.Step
	}{
		{"nothing to do lasts a second", command.Command{}, nil, nil, cycle.Step{After: seconds(1)}},
		{"phrases", command.Command{}, one, nil, cycle.Step{Playlist: one, After: seconds(0)}},
		{"phrases of which none can be played", command.Command{Phrases: make([]command.Phrase, 2)}, nil, nil, cycle.Step{After: seconds(1)}},
		{"a wait", command.Command{After: seconds(20)}, nil, nil, cycle.Step{After: seconds(20)}},
		{"a wait of nothing", command.Command{After: seconds(0)}, nil, nil, cycle.Step{After: seconds(1)}},
		{"phrases and a wait", command.Command{After: seconds(3)}, one, nil, cycle.Step{Playlist: one, After: seconds(3)}},
		{"digits", command.Command{DTMF: digits, BargeIn: "all"}, one, nil, cycle.Step{Playlist: one, Digits: digits, BargeIn: "all"}},
		{"digits or a wait", command.Command{DTMF: digits, After: seconds(4)}, nil, nil, cycle.Step{Digits: digits, After: seconds(4)}},
		{"goodbye", command.Command{Hangup: true}, one, nil, cycle.Step{Playlist: one, Last: true, Background: &cycle.Background{}}},
		{
			"background", command.Command{Background: &command.Background{FileName: "m.wav", RepeatPause: time.Second}, After: seconds(9)}, nil, &clip,
			cycle.Step{After: seconds(9), Background: &cycle.Background{Clip: &clip, RepeatPause: time.Second}},
		},
		{
			"background that cannot be played stays as it is", command.Command{Background: &command.Background{FileName: "m.wav"}, After: seconds(9)}, nil, nil,
			cycle.Step{After: seconds(9)},
		},
		{
			"background stops", command.Command{Background: &command.Background{Stop: true}, After: seconds(9)}, nil, nil,
			cycle.Step{After: seconds(9), Background: &cycle.Background{}},
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s, effects := at(cycle.Resolving, &tc.cmd).Apply(cycle.Resolved{Clips: tc.clips, Background: tc.bg}, t0)
			tc.want.ID = "7.1.1"
			if want := []cycle.Effect{cycle.Run{Step: tc.want}}; !reflect.DeepEqual(effects, want) {
				t.Errorf("effects %+v\nwant    %+v", effects, want)
			}
			if s.Place != cycle.Playing {
				t.Errorf("place is %s", s.Place)
			}
		})
	}
}

// TestResults: what the next question carries after each end of a step.
func TestResults(t *testing.T) {
	tests := []struct {
		name string
		dtmf *command.DTMF
		done cycle.StepDone
		want string
	}{
		{"played", nil, cycle.StepDone{Reason: cycle.ReasonDone}, `{}`},
		{"played, digits pressed meanwhile", nil, cycle.StepDone{Reason: cycle.ReasonDone, Buffer: "12"}, `{"dtmfBuffer":"12"}`},
		{
			"termination key", digits, cycle.StepDone{Reason: cycle.ReasonTerminationKey, Digits: "12", TerminationKey: "#", Buffer: "12"},
			`{"dtmfBuffer":"12","dtmfParams":{"dtmfMatch":"12","reason":"terminationKey","matchedTerminationKey":"#"}}`,
		},
		{"enough digits", digits, cycle.StepDone{Reason: cycle.ReasonMaxDigits, Digits: "1", Buffer: "31"}, `{"dtmfBuffer":"31","dtmfParams":{"dtmfMatch":"1","reason":"maxDigits"}}`},
		{"no digit", digits, cycle.StepDone{Reason: cycle.ReasonFirstTimeout}, `{"dtmfParams":{"dtmfMatch":"","reason":"firstTimeout"}}`},
		{"no further digit", digits, cycle.StepDone{Reason: cycle.ReasonBetweenTimeout, Digits: "1", Buffer: "1"}, `{"dtmfBuffer":"1","dtmfParams":{"dtmfMatch":"1","reason":"betweenTimeout"}}`},
		{"the wait was over first", digits, cycle.StepDone{Reason: cycle.ReasonDone, Buffer: "1"}, `{"dtmfBuffer":"1"}`},
		{"interrupted", digits, cycle.StepDone{Reason: cycle.ReasonInterrupted, Buffer: "1"}, `{"dtmfBuffer":"1"}`},
		{
			"encrypted", md5, cycle.StepDone{Reason: cycle.ReasonMaxDigits, Digits: "1234", Buffer: "91234"}, // by md5sum
			`{"dtmfBuffer":"8511a76bdaf3f028a0370567765fa9d0","dtmfParams":{"dtmfMatch":"bdecdf17bef039036f633933b6e348d5","reason":"maxDigits","encryption":{"type":"md5","salt":"pepper"}}}`,
		},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			s, _ := at(cycle.Resolving, &command.Command{DTMF: tc.dtmf}).Apply(cycle.Resolved{}, t0)
			tc.done.StepID = s.StepID()
			s, effects := s.Apply(tc.done, t0.Add(time.Second))
			if !reflect.DeepEqual(effects, []cycle.Effect{cycle.Ask{}}) || s.Place != cycle.Asking || s.CommandID() != "7.2" {
				t.Errorf("%s %s, effects %+v", s.Place, s.CommandID(), effects)
			}
			got, err := json.Marshal(s.Question)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("question carries %s\nwant             %s", got, tc.want)
			}
		})
	}
}

// TestEncryptionOutlastsItsCommand: a buffer filled under encryption is not shown
// in clear by a command that collects nothing.
func TestEncryptionOutlastsItsCommand(t *testing.T) {
	s, _ := at(cycle.Resolving, &command.Command{DTMF: md5}).Apply(cycle.Resolved{}, t0)
	s, _ = s.Apply(cycle.StepDone{StepID: s.StepID(), Reason: cycle.ReasonMaxDigits, Digits: "1234", Buffer: "1234"}, t0)
	s, _ = s.Apply(cycle.Answered{Command: command.Command{After: seconds(1)}}, t0)
	s, _ = s.Apply(cycle.Resolved{}, t0)
	s, _ = s.Apply(cycle.StepDone{StepID: s.StepID(), Reason: cycle.ReasonDone, Buffer: "1234"}, t0)
	if s.Question.DTMFBuffer != "bdecdf17bef039036f633933b6e348d5" {
		t.Errorf("buffer is %q", s.Question.DTMFBuffer)
	}
	s, _ = s.Apply(cycle.Answered{Command: command.Command{DTMF: digits}}, t0)
	s, _ = s.Apply(cycle.Resolved{}, t0)
	s, _ = s.Apply(cycle.StepDone{StepID: s.StepID(), Reason: cycle.ReasonMaxDigits, Digits: "1", Buffer: "1"}, t0)
	if s.Question.DTMFBuffer != "1" {
		t.Errorf("buffer is %q after a collection in clear", s.Question.DTMFBuffer)
	}
}

// TestTransitions has the rows that are not about steps and digits.
func TestTransitions(t *testing.T) {
	wait := &command.Command{After: seconds(60)}
	bye := &command.Command{Hangup: true}
	broken := cycle.Failure{Error: cycle.ErrorRequest, Details: map[string]string{"reason": "status 500"}}
	failed := at(cycle.Ending, nil)
	failed.Failure = &broken
	overtaken := at(cycle.Asking, nil)
	overtaken.Interrupted = true
	overtaken.Question.DTMFBuffer = "5"
	failing := []cycle.Effect{
		cycle.Alarm{Key: "7.1/" + cycle.ErrorRequest, Error: cycle.ErrorRequest, Details: broken.Details},
		cycle.End{Detail: cycle.ErrorRequest},
	}
	ask, forget, hangup := []cycle.Effect{cycle.Ask{}}, []cycle.Effect{cycle.Forget{}}, []cycle.Effect{cycle.End{Hangup: true}}
	tests := []struct {
		name   string
		from   cycle.State
		on     cycle.Event
		place  cycle.Place
		id     string
		effect []cycle.Effect
	}{
		{"start", cycle.Begin(7), cycle.Started{}, cycle.Asking, "7.1", ask},
		{"start with a command", cycle.BeginWith(7, *wait), cycle.Started{}, cycle.Resolving, "7.0", []cycle.Effect{cycle.Resolve{}}},
		{"answer", at(cycle.Asking, nil), cycle.Answered{Command: *wait}, cycle.Resolving, "7.1", []cycle.Effect{cycle.Resolve{}}},
		{"answer after an end", failed, cycle.Answered{Command: *wait}, cycle.Ending, "7.1", nil},
		{"answer twice", at(cycle.Playing, wait), cycle.Answered{Command: *wait}, cycle.Playing, "7.1", nil},
		{"hangup without phrases", at(cycle.Resolving, bye), cycle.Resolved{}, cycle.Ending, "7.1", hangup},
		{"hangup after phrases", at(cycle.Playing, bye), cycle.StepDone{StepID: "7.1.1", Reason: cycle.ReasonDone}, cycle.Ending, "7.1", hangup},
		{"goodbye barged in on", at(cycle.Playing, bye), cycle.StepDone{StepID: "7.1.1", Reason: cycle.ReasonMaxDigits}, cycle.Ending, "7.1", hangup},
		{"goodbye interrupted", at(cycle.Playing, bye), cycle.StepDone{StepID: "7.1.1", Reason: cycle.ReasonInterrupted}, cycle.Asking, "7.2", ask},
		{"result of an old step", at(cycle.Playing, wait), cycle.StepDone{StepID: "7.0.1"}, cycle.Playing, "7.1", nil},
		{"result while asking", at(cycle.Asking, nil), cycle.StepDone{StepID: "7.1.1"}, cycle.Asking, "7.1", nil},

		{"interrupt while playing", at(cycle.Playing, wait), cycle.Interrupted{CommandID: "7.1"}, cycle.Playing, "7.1", []cycle.Effect{cycle.Interrupt{StepID: "7.1.1"}}},
		{"interrupt while resolving", at(cycle.Resolving, wait), cycle.Interrupted{CommandID: "7.1"}, cycle.Asking, "7.2", ask},
		{"interrupt while asking", at(cycle.Asking, nil), cycle.Interrupted{CommandID: "7.1"}, cycle.Asking, "7.1", nil},
		{"answer to an interrupted command", overtaken, cycle.Answered{Command: *wait}, cycle.Asking, "7.2", ask},
		{"interrupt of an old command", at(cycle.Playing, wait), cycle.Interrupted{CommandID: "7.0"}, cycle.Playing, "7.1", nil},
		{"resolved after an interrupt", at(cycle.Asking, nil), cycle.Resolved{}, cycle.Asking, "7.1", nil},

		{"failure while asking", at(cycle.Asking, nil), cycle.Failed{Failure: broken}, cycle.Ending, "7.1", failing},
		{"failure while playing", at(cycle.Playing, wait), cycle.Failed{Failure: broken}, cycle.Ending, "7.1", failing},
		{"second failure", failed, cycle.Failed{Failure: cycle.Failure{Error: "other"}}, cycle.Ending, "7.1", nil},
		{"told", failed, cycle.Told{}, cycle.Over, "7.1", forget},
		{"revoked", at(cycle.Asking, nil), cycle.Revoked{}, cycle.Over, "7.1", forget},
		{"revoked step", at(cycle.Playing, wait), cycle.Revoked{StepID: "7.1.1"}, cycle.Over, "7.1", forget},
		{"revoked step of an older grant", at(cycle.Playing, wait), cycle.Revoked{StepID: "6.4.1"}, cycle.Playing, "7.1", nil},
		{"anything after the end", at(cycle.Over, nil), cycle.Answered{Command: *wait}, cycle.Over, "7.1", nil},

		{"resume asking", at(cycle.Asking, nil), cycle.Resumed{}, cycle.Asking, "7.1", ask},
		{"resume resolving", at(cycle.Resolving, wait), cycle.Resumed{}, cycle.Resolving, "7.1", []cycle.Effect{cycle.Resolve{}}},
		{"resume playing", at(cycle.Playing, wait), cycle.Resumed{}, cycle.Playing, "7.1", []cycle.Effect{cycle.Await{StepID: "7.1.1"}}},
		{"resume ending", failed, cycle.Resumed{}, cycle.Ending, "7.1", failing},
		{"step was never started", at(cycle.Playing, wait), cycle.StepMissing{StepID: "7.1.1"}, cycle.Resolving, "7.1", []cycle.Effect{cycle.Resolve{}}},
		{"step was over after all", at(cycle.Asking, nil), cycle.StepMissing{StepID: "7.0.1"}, cycle.Asking, "7.1", nil},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			before, err := json.Marshal(tc.from)
			if err != nil {
				t.Fatal(err)
			}
			s, effects := tc.from.Apply(tc.on, t0)
			if s.Place != tc.place || s.CommandID() != tc.id {
				t.Errorf("%s at %s, want %s at %s", s.CommandID(), s.Place, tc.id, tc.place)
			}
			if len(effects)+len(tc.effect) > 0 && !reflect.DeepEqual(effects, tc.effect) {
				t.Errorf("effects %+v\nwant    %+v", effects, tc.effect)
			}
			if after, _ := json.Marshal(tc.from); string(after) != string(before) {
				t.Error("Apply changed the state it was called on")
			}
		})
	}
}

// TestSavedAndLoaded: the state survives JSON, and a step started anew has an id
// of its own.
func TestSavedAndLoaded(t *testing.T) {
	s, _ := at(cycle.Resolving, &command.Command{DTMF: md5, BargeIn: "all", After: seconds(0)}).Apply(cycle.Resolved{Clips: []cycle.Clip{clip}}, t0)
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var loaded cycle.State
	if err := json.Unmarshal(text, &loaded); err != nil {
		t.Fatal(err)
	}
	loaded.Asked = s.Asked // the location differs, the instant does not
	if !reflect.DeepEqual(loaded, s) {
		t.Errorf("loaded %+v\nsaved  %+v", loaded, s)
	}
	loaded, _ = loaded.Apply(cycle.StepMissing{StepID: "7.1.1"}, t0)
	_, effects := loaded.Apply(cycle.Resolved{Clips: []cycle.Clip{clip}}, t0)
	if run := effects[0].(cycle.Run); run.Step.ID != "7.1.2" {
		t.Errorf("step is %s", run.Step.ID)
	}
}

// TestATightLoopIsSlowedDown: an application that ends each command at once is
// not asked a thousand times a second.
func TestATightLoopIsSlowedDown(t *testing.T) {
	s, _ := cycle.Begin(7).Apply(cycle.Started{}, t0)
	now := t0
	slowed := 0
	for range 30 {
		now = now.Add(time.Millisecond)
		var effects []cycle.Effect
		s, _ = s.Apply(cycle.Answered{Command: command.Command{DTMF: digits}}, now)
		s, effects = s.Apply(cycle.Resolved{}, now)
		if after := effects[0].(cycle.Run).Step.After; after != nil && *after >= time.Second {
			slowed++
			now = now.Add(*after)
		}
		s, _ = s.Apply(cycle.StepDone{StepID: s.StepID(), Reason: cycle.ReasonMaxDigits}, now)
	}
	// 20 pass, one waits, which forgives the next 20.
	if slowed != 1 {
		t.Errorf("%d of 30 commands were slowed down", slowed)
	}
}

func TestProblemsBecomeAlarmsAfterTheStep(t *testing.T) {
	_, effects := at(cycle.Resolving, &command.Command{}).Apply(cycle.Resolved{Clips: []cycle.Clip{clip}, Problems: []cycle.Problem{
		{Index: 2, Error: cycle.ErrorPhrase, FileName: "a.wav", Reason: "gone"},
		{Index: -1, Error: cycle.ErrorPhraseRemote, URL: "http://h/b.wav", Reason: "slow"},
	}}, t0)
	want := []cycle.Effect{
		cycle.Alarm{Key: "7.1/phraseError/2", Error: "phraseError", Details: map[string]string{"phrase": "2", "fileName": "a.wav", "reason": "gone"}},
		cycle.Alarm{
			Key: "7.1/phraseRemoteCacheTimeout/background", Error: "phraseRemoteCacheTimeout",
			Details: map[string]string{"phrase": "backgroundPrompt", "url": "http://h/b.wav", "reason": "slow"},
		},
	}
	if !reflect.DeepEqual(effects[1:], want) {
		t.Errorf("effects %+v\nwant %+v", effects[1:], want)
	}
}
