package ivrd_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/redistest"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
)

// TestTakeOverWhilePlaying: the owner dies while a prompt plays, the caller
// presses a key, the other instance goes on with it.
func TestTakeOverWhilePlaying(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := newHouse(t, rdb)
		a, b := h.ivrd("a"), h.ivrd("b")
		h.recordingd.put(domain, "menu.wav", wav(440, 800))
		c := h.begin(a)
		h.sessiond.answer(t, `{"phrases":[{"format":"file","fileName":"menu.wav"}],"dtmf":{"maxDigits":1}}`)
		step := h.mediad.next(t)

		died := time.Now()
		a.line.kill()
		h.mediad.finish(t, c.leg, &mediapb.StepResult{
			StepId: step.GetStepId(), Reason: mediapb.StepResult_REASON_MAX_DIGITS, Digits: "5", Buffer: "5",
		})
		q := h.sessiond.asked(t)
		t.Logf("went on after %s", time.Since(died).Round(time.Millisecond))
		if q.GetCommandId() != "3.2" {
			t.Errorf("asked for command %s, want 3.2", q.GetCommandId())
		}
		if want := `{"dtmfBuffer":"5","dtmfParams":{"dtmfMatch":"5","reason":"maxDigits"}}`; string(q.GetBody()) != want {
			t.Errorf("question carries %s\nwant %s", q.GetBody(), want)
		}
		q.answer(`{"getIVRCommandAfter":60}`)
		if next := h.mediad.next(t); next.Controller != "b" {
			t.Errorf("step is run by %s", next.Controller)
		}
		silent(t, h.sessiond.asks, "another question")
		if _, err := b.client.Interrupt(t.Context(), &ivrpb.InterruptRequest{ParticipantId: c.participant, CommandId: "3.2"}); err != nil {
			t.Error(err)
		}
		h.sessiond.asked(t)
	})
}

// TestTakeOverWhileAsking: the question is put again, under the same id.
func TestTakeOverWhileAsking(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := newHouse(t, rdb)
		a, _ := h.ivrd("a"), h.ivrd("b")
		h.begin(a)
		first := h.sessiond.asked(t)
		a.line.kill()
		second := h.sessiond.asked(t)
		if second.GetCommandId() != first.GetCommandId() || string(second.GetBody()) != string(first.GetBody()) {
			t.Errorf("asked %s %s, then %s %s", first.GetCommandId(), first.GetBody(), second.GetCommandId(), second.GetBody())
		}
		first.answer(`{"hangup":true}`) // reaches nobody
		second.answer(`{"getIVRCommandAfter":60}`)
		if step := h.mediad.next(t); step.Controller != "b" {
			t.Errorf("step is run by %s", step.Controller)
		}
		silent(t, h.sessiond.ends, "an end")
	})
}

// TestTakeOverBeforeTheStepWasStarted: the cursor says playing, the leg knows of
// no such step, so that it is started after all.
func TestTakeOverBeforeTheStepWasStarted(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a, _ := h.ivrd("a"), h.ivrd("b")
	c := h.begin(a)
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	lost := h.mediad.next(t)
	a.line.kill()
	h.mediad.drop(c.leg)
	step := h.mediad.next(t)
	if step.Controller != "b" || step.GetStepId() == lost.GetStepId() || step.GetAfter().AsDuration() != time.Minute {
		t.Errorf("%s runs %v", step.Controller, step.Step)
	}
	h.mediad.finish(t, c.leg, done(step))
	if q := h.sessiond.asked(t); q.GetCommandId() != "3.2" {
		t.Errorf("asked for command %s", q.GetCommandId())
	}
}

// TestManyTakenOverOnce: every one of a dead instance's dialogues goes on, each once, though
// two instances compete for them.
func TestManyTakenOverOnce(t *testing.T) {
	h := newHouse(t, redistest.Start(t).Client())
	a, _, _ := h.ivrd("a"), h.ivrd("b"), h.ivrd("c")
	const calls = 60
	running := map[string]string{} // leg → step
	for range calls {
		h.begin(a)
		h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
		step := h.mediad.next(t)
		running[step.Leg] = step.GetStepId()
	}
	a.line.kill()
	for leg, step := range running {
		h.mediad.finish(t, leg, &mediapb.StepResult{StepId: step, Reason: mediapb.StepResult_REASON_DONE})
	}
	seen := map[string]bool{}
	for range calls {
		q := h.sessiond.asked(t)
		if seen[q.GetSessionId()] {
			t.Errorf("session %s was asked for twice", q.GetSessionId())
		}
		seen[q.GetSessionId()] = true
	}
	silent(t, h.sessiond.asks, "one question more")
}

// TestRequestsReachTheOneInCharge: any instance takes Stop and Interrupt.
func TestRequestsReachTheOneInCharge(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a, b := h.ivrd("a"), h.ivrd("b")
	c := h.begin(a)
	q := h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	h.mediad.next(t)
	if _, err := b.client.Interrupt(t.Context(), &ivrpb.InterruptRequest{ParticipantId: c.participant, CommandId: q.GetCommandId()}); err != nil {
		t.Fatal(err)
	}
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	step := h.mediad.next(t)
	h.stop(b, c)
	h.mediad.finish(t, c.leg, done(step))
	silent(t, h.sessiond.asks, "a question")

	_, err := b.client.Interrupt(t.Context(), &ivrpb.InterruptRequest{ParticipantId: c.participant, CommandId: q.GetCommandId()})
	if fault.ReasonOf(err) != fault.CommandNotRunning {
		t.Errorf("interrupt after the stop: %v", err)
	}
}

// TestStopOfADeadInstancesDialogue does not wait for a sweep.
func TestStopOfADeadInstancesDialogue(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	slow := func(c *ivrd.Config) { c.Takeover.Sweep = time.Minute }
	a, b := h.ivrd("a"), h.ivrd("b", slow)
	c := h.begin(a)
	h.sessiond.asked(t)
	a.line.kill()
	h.until(func() bool { return h.rdb.ZCount(t.Context(), "cm:{registry:ivrd}:beats", now(), "+inf").Val() == 1 })
	h.stop(b, c)
	if over := h.rdb.HGet(t.Context(), h.keys(t, "*:dialogue:*")[0], "over").Val(); over != "1" {
		t.Errorf("over is %q", over)
	}
}

// TestDrainHandsOver: a rolling update moves dialogues at rest without waiting
// for a heartbeat to expire.
func TestDrainHandsOver(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.grace = 10 * time.Second
	patient := func(c *ivrd.Config) { c.Takeover.Expiry = time.Minute }
	a, _ := h.ivrd("a", patient), h.ivrd("b", patient)
	playing := h.begin(a)
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	step := h.mediad.next(t)
	h.begin(a)
	q := h.sessiond.asked(t)

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.stop()
	}()
	h.until(func() bool { return h.controller(playing.leg) == "b" })
	h.mediad.finish(t, playing.leg, done(step))
	h.sessiond.answer(t, `{"hangup":true}`)
	receive(t, h.sessiond.ends, "the end")
	select {
	case <-stopped:
		t.Error("a stopped while it was asking")
	default:
	}
	q.answer(`{"getIVRCommandAfter":60}`) // a starts the step, and then leaves it to b
	asked := h.mediad.next(t)
	receive(t, stopped, "the stop")
	h.until(func() bool { return h.controller(asked.Leg) == "b" })
	h.mediad.finish(t, asked.Leg, done(asked))
	h.sessiond.answer(t, `{"hangup":true}`)
	receive(t, h.sessiond.ends, "the end")
}

// TestDrainAloneWaitsForTheCalls: with nobody to take them, dialogues end here.
func TestDrainAloneWaitsForTheCalls(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.grace = 10 * time.Second
	a := h.ivrd("a")
	c := h.begin(a)
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	step := h.mediad.next(t)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		a.stop()
	}()
	h.until(func() bool {
		_, err := a.client.Start(t.Context(), h.call().start())
		return fault.ReasonOf(err) == fault.Unavailable
	})
	h.mediad.finish(t, c.leg, done(step))
	h.sessiond.answer(t, `{"hangup":true}`)
	receive(t, h.sessiond.ends, "the end")
	receive(t, stopped, "the stop")
}

// TestRedisGone: live dialogues go on from memory, new ones are refused.
func TestRedisGone(t *testing.T) {
	server := redistest.Start(t)
	h := newHouse(t, server.Client())
	a := h.ivrd("a")
	c := h.begin(a)
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	step := h.mediad.next(t)
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := a.client.Start(ctx, h.call().start()); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("start without a store: %v", err)
	}
	for range 3 {
		h.mediad.finish(t, c.leg, done(step))
		h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
		step = h.mediad.next(t)
	}
	h.mediad.finish(t, c.leg, done(step))
	h.sessiond.answer(t, `{"hangup":true}`)
	receive(t, h.sessiond.ends, "the end")
}

// until waits for a state that another goroutine brings about.
func (h *house) until(reached func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for !reached() {
		if time.Now().After(deadline) {
			h.t.Fatalf("not reached within %s", patience)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (h *house) controller(leg string) string {
	h.mediad.mu.Lock()
	defer h.mediad.mu.Unlock()
	return h.mediad.legs[leg].controller
}

func now() string { return fmt.Sprint(time.Now().UnixMilli()) }
