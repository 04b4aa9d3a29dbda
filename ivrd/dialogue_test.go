package ivrd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/redistest"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
)

func done(step started) *mediapb.StepResult {
	return &mediapb.StepResult{StepId: step.GetStepId(), Reason: mediapb.StepResult_REASON_DONE, PlayedAll: true}
}

// TestMenu is the life of a dialogue: a prompt with digits, the digits, a
// goodbye.
func TestMenu(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.recordingd.put(domain, "menu.wav", wav(440, 800))
	h.recordingd.put(domain, "bye.wav", wav(880, 400))
	c := h.begin(h.ivrd("a"))

	q := h.sessiond.asked(t)
	if q.GetKind() != "getIvrCommand" || q.GetSessionId() != c.session || q.GetParticipantId() != c.participant || q.GetGrant() != c.grant {
		t.Errorf("question is %v", q.AskRequest)
	}
	if string(q.GetBody()) != "{}" {
		t.Errorf("the first question carries %s", q.GetBody())
	}
	q.answer(`{"phrases":[{"format":"file","fileName":"menu.wav"}],"bargeIn":"all",
		"dtmf":{"maxDigits":1,"firstTimeout":7,"betweenTimeout":"2.5","terminationKey":"#*","flush":true}}`)

	menu := h.mediad.next(t)
	rule := menu.GetDigits()
	switch {
	case menu.Leg != c.leg || len(menu.GetPlaylist()) != 1:
		t.Errorf("step is %v", menu)
	case menu.GetBargeIn() != mediapb.BargeIn_BARGE_IN_ALL || menu.GetLast() || menu.GetAfter() != nil || menu.GetBackground() != nil:
		t.Errorf("step is %v", menu)
	case !rule.GetFlush() || rule.GetMaxDigits() != 1 || rule.GetTerminationKeys() != "#*" ||
		rule.GetFirstTimeout().AsDuration() != 7*time.Second || rule.GetBetweenTimeout().AsDuration() != 2500*time.Millisecond:
		t.Errorf("digit rule is %v", rule)
	}
	if got := len(h.mediad.clips[menu.GetPlaylist()[0]]); got != 1600 {
		t.Errorf("clip has %d bytes, want 1600", got)
	}
	h.mediad.finish(t, c.leg, &mediapb.StepResult{
		StepId: menu.GetStepId(), Reason: mediapb.StepResult_REASON_TERMINATION_KEY, Digits: "12", TerminationKey: "#", Buffer: "12",
	})

	second := h.sessiond.asked(t)
	want := `{"dtmfBuffer":"12","dtmfParams":{"dtmfMatch":"12","reason":"terminationKey","matchedTerminationKey":"#"}}`
	if string(second.GetBody()) != want {
		t.Errorf("question carries %s\nwant %s", second.GetBody(), want)
	}
	if second.GetCommandId() == q.GetCommandId() {
		t.Error("two commands have one id")
	}
	second.answer(`{"phrases":[{"format":"file","fileName":"bye.wav"}],"hangup":true}`)

	bye := h.mediad.next(t)
	if !bye.GetLast() || !bye.GetBackground().GetStop() {
		t.Errorf("step before hangup is %v", bye)
	}
	silent(t, h.sessiond.ends, "the end before the goodbye was played")
	h.mediad.finish(t, c.leg, done(bye))
	end := receive(t, h.sessiond.ends, "the end")
	if end.GetOutcome() != sessionpb.EndDialogueRequest_OUTCOME_HANGUP || end.GetGrant() != c.grant || end.GetParticipantId() != c.participant {
		t.Errorf("end is %v", end)
	}
	silent(t, h.sessiond.alarms, "an alarm")
	if log := h.logs.String(); strings.Contains(log, `"12"`) || strings.Contains(log, "digits=") {
		t.Error("digits are in the log")
	}
}

func TestEncryptedDigits(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	c := h.begin(h.ivrd("a"))
	h.sessiond.answer(t, `{"dtmf":{"maxDigits":4,"encryption":{"type":"md5","salt":"pepper"}}}`)
	step := h.mediad.next(t)
	h.mediad.finish(t, c.leg, &mediapb.StepResult{
		StepId: step.GetStepId(), Reason: mediapb.StepResult_REASON_MAX_DIGITS, Digits: "1234", Buffer: "91234",
	})
	q := h.sessiond.asked(t)
	// printf pepper1234 | md5sum; printf pepper91234 | md5sum
	want := `{"dtmfBuffer":"8511a76bdaf3f028a0370567765fa9d0","dtmfParams":{"dtmfMatch":"bdecdf17bef039036f633933b6e348d5",` +
		`"reason":"maxDigits","encryption":{"type":"md5","salt":"pepper"}}}`
	if string(q.GetBody()) != want {
		t.Errorf("question carries %s\nwant %s", q.GetBody(), want)
	}
	if saved := h.rdb.HGet(t.Context(), h.keys(t, "*:dialogue:*")[0], "state").Val(); strings.Contains(saved, "1234") {
		t.Error("digits are stored in clear")
	}
}

func TestWhatAnApplicationCanDoWrong(t *testing.T) {
	tests := []struct {
		name   string
		answer func(*question)
		error  string
		field  string
	}{
		{"empty body", func(q *question) { q.answer(" \n") }, "Empty body in getIvrCommand response", ""},
		{"said empty by sessiond", func(q *question) {
			q.fail(fault.New(fault.ApplicationFailed, "the answer has no body").On("empty"))
		}, "Empty body in getIvrCommand response", ""},
		{"status 500", func(q *question) {
			q.fail(fault.New(fault.ApplicationFailed, "the application answered 500").On("status"))
		}, "getIvrCommand request error", ""},
		{"unreachable", func(q *question) {
			q.fail(fault.New(fault.ApplicationFailed, "connection refused").On("request"))
		}, "getIvrCommand request error", ""},
		{"too slow", func(q *question) { q.fail(fault.New(fault.Timeout, "no answer")) }, "getIvrCommand request error", ""},
		{"garbage", func(q *question) { q.answer(`<html>`) }, "IVR command failed", ""},
		{"bad field", func(q *question) { q.answer(`{"dtmf":{"maxDigits":-1}}`) }, "IVR command failed", "dtmf.maxDigits"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t, redistest.Mini(t))
			h.begin(h.ivrd("a"))
			tc.answer(h.sessiond.asked(t))
			a := receive(t, h.sessiond.alarms, "the alarm")
			if a.Type != "ivrCommandError" || a.Error != tc.error || a.Details["field"] != tc.field {
				t.Errorf("alarm is %+v", a)
			}
			end := receive(t, h.sessiond.ends, "the end")
			if end.GetOutcome() != sessionpb.EndDialogueRequest_OUTCOME_FAILED || end.GetDetail() != tc.error {
				t.Errorf("end is %v", end)
			}
			silent(t, h.sessiond.asks, "another question")
		})
	}
}

func TestPhrasesThatCannotBePlayed(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.recordingd.put(domain, "good.wav", wav(440, 800))
	h.recordingd.put(domain, "bad.wav", []byte("RIFF....WAVEjunk"))
	c := h.begin(h.ivrd("a"))
	h.sessiond.answer(t, `{"phrases":[
		{"format":"file","fileName":"missing.wav"}, {"format":"file","fileName":"bad.wav"},
		{"format":"awstts","awsTTSParameters":{"Text":"hello"}}, {"format":"file","fileName":"good.wav"},
		{"format":"file","fileName":"../etc/passwd"}, {"format":"url","url":"http://127.0.0.1:1/x.wav"}]}`)
	step := h.mediad.next(t)
	if len(step.GetPlaylist()) != 1 {
		t.Errorf("playlist is %v", step.GetPlaylist())
	}
	want := map[string]string{
		"0": "does not exist", "1": "no data chunk", "2": "awstts is not available", "4": "fileName must be", "5": "private address",
	}
	for range want {
		a := receive(t, h.sessiond.alarms, "an alarm")
		if a.Error != "phraseError" || !strings.Contains(a.Details["reason"], want[a.Details["phrase"]]) {
			t.Errorf("alarm is %+v", a)
		}
		delete(want, a.Details["phrase"])
	}
	h.mediad.finish(t, c.leg, done(step))
	h.sessiond.asked(t).answer(`{"hangup":true}`)
	receive(t, h.sessiond.ends, "the end")
}

func TestACommandWithNothingToDoLastsASecond(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.begin(h.ivrd("a"))
	h.sessiond.answer(t, `{}`)
	if step := h.mediad.next(t); step.GetAfter().AsDuration() != time.Second || len(step.GetPlaylist()) != 0 {
		t.Errorf("step is %v", step)
	}
}

func TestInterrupt(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	c := h.begin(a)
	q := h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	step := h.mediad.next(t)
	interrupt := func(command string) error {
		_, err := a.client.Interrupt(t.Context(), &ivrpb.InterruptRequest{
			SessionId: c.session, ParticipantId: c.participant, CommandId: command,
		})
		return err
	}
	if err := interrupt("3.99"); fault.ReasonOf(err) != fault.CommandNotRunning {
		t.Errorf("interrupt of a command that never was: %v", err)
	}
	if err := interrupt(q.GetCommandId()); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, h.mediad.stopped, "the stop"); got != step.GetStepId() {
		t.Errorf("stopped %s, want %s", got, step.GetStepId())
	}
	next := h.sessiond.asked(t)
	if string(next.GetBody()) != "{}" {
		t.Errorf("question carries %s", next.GetBody())
	}
	if err := interrupt(q.GetCommandId()); fault.ReasonOf(err) != fault.CommandNotRunning {
		t.Errorf("interrupt of a command that is over: %v", err)
	}
}

func TestStopSaysNothingMore(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	asking := h.begin(a)
	q := h.sessiond.asked(t)
	h.stop(a, asking)
	q.answer(`{"phrases":[]}`)

	playing := h.begin(a)
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	step := h.mediad.next(t)
	h.stop(a, playing)
	h.mediad.finish(t, playing.leg, done(step))

	silent(t, h.sessiond.asks, "a question")
	silent(t, h.mediad.steps, "a step")
	silent(t, h.sessiond.ends, "an end")
	h.stop(a, playing) // twice is fine
	h.stop(a, h.call())
}

func TestStartIsIdempotent(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a, b := h.ivrd("a"), h.ivrd("b")
	c := h.call()
	for _, at := range []*instance{a, a, b} {
		resp, err := at.client.Start(t.Context(), c.start())
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetAddress() != "memory:ivrd#a" {
			t.Errorf("address is %s", resp.GetAddress())
		}
	}
	first := h.sessiond.asked(t)
	silent(t, h.sessiond.asks, "a second question")
	first.answer(`{"hangup":true}`)
	receive(t, h.sessiond.ends, "the end")
	if _, err := b.client.Start(t.Context(), c.start()); err != nil {
		t.Fatal(err)
	}
	silent(t, h.sessiond.asks, "a question after the end")

	stale := c
	stale.grant--
	if _, err := a.client.Start(t.Context(), stale.start()); fault.ReasonOf(err) != fault.StaleGrant {
		t.Errorf("start under an old grant: %v", err)
	}
	anew := c
	anew.grant++
	if _, err := b.client.Start(t.Context(), anew.start()); err != nil {
		t.Fatal(err)
	}
	if q := h.sessiond.asked(t); q.GetGrant() != anew.grant {
		t.Errorf("question under grant %d", q.GetGrant())
	}
}

func TestARevokedLegEndsTheDialogueQuietly(t *testing.T) {
	for _, place := range []string{"playing", "asking", "told by sessiond"} {
		t.Run(place, func(t *testing.T) {
			h := newHouse(t, redistest.Mini(t))
			c := h.begin(h.ivrd("a"))
			q := h.sessiond.asked(t)
			switch place {
			case "playing":
				q.answer(`{"getIVRCommandAfter":60}`)
				h.mediad.next(t)
				h.mediad.grant(c.leg, c.grant+1)
			case "asking":
				h.mediad.grant(c.leg, c.grant+1)
				q.answer(`{"getIVRCommandAfter":60}`)
			default:
				q.fail(fault.New(fault.StaleGrant, "stale"))
			}
			silent(t, h.sessiond.asks, "a question")
			silent(t, h.sessiond.alarms, "an alarm")
			silent(t, h.sessiond.ends, "an end")
		})
	}
}

func TestALostLegIsToldAndEnds(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	c := h.begin(h.ivrd("a"))
	q := h.sessiond.asked(t)
	h.mediad.close(c.leg)
	q.answer(`{"getIVRCommandAfter":60}`)
	if a := receive(t, h.sessiond.alarms, "the alarm"); a.Error != "mediaServerError" {
		t.Errorf("alarm is %+v", a)
	}
	receive(t, h.sessiond.ends, "the end")
}

func TestMissingFieldsAreNamed(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	for field, blank := range map[string]func(*ivrpb.StartRequest){
		"session_id":     func(r *ivrpb.StartRequest) { r.SessionId = "" },
		"participant_id": func(r *ivrpb.StartRequest) { r.ParticipantId = "no id" },
		"domain":         func(r *ivrpb.StartRequest) { r.Domain = "" },
		"leg_id":         func(r *ivrpb.StartRequest) { r.LegId = "" },
		"media_address":  func(r *ivrpb.StartRequest) { r.MediaAddress = "" },
	} {
		req := h.call().start()
		blank(req)
		_, err := a.client.Start(t.Context(), req)
		if f := fault.From(err); f.Reason != fault.BadRequest || f.Field != field {
			t.Errorf("%s: %v on %q", field, f.Reason, f.Field)
		}
	}
}
