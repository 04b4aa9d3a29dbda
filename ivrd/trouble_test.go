package ivrd_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/callmesh/callmesh/ivrd"
	"github.com/callmesh/callmesh/kit/daemon"
	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/grpckit"
	"github.com/callmesh/callmesh/kit/redistest"
	ivrpb "github.com/callmesh/callmesh/proto/gen/callmesh/ivr/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
)

// TestAResultDuringABreakIsNotLost: the stream from mediad breaks, the step ends
// meanwhile, and its result counts once.
func TestAResultDuringABreakIsNotLost(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	c := h.begin(h.ivrd("a"))
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	for n := range 3 {
		step := h.mediad.next(t)
		h.mediad.goAway(true)
		h.mediad.finish(t, c.leg, done(step))
		h.mediad.goAway(false)
		q := h.sessiond.asked(t)
		if want := fmt.Sprintf("3.%d", n+2); q.GetCommandId() != want {
			t.Fatalf("asked for command %s, want %s", q.GetCommandId(), want)
		}
		silent(t, h.sessiond.asks, "another question")
		q.answer(`{"getIVRCommandAfter":60}`)
	}
	silent(t, h.sessiond.alarms, "an alarm")
}

func TestMediadGone(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a", func(c *ivrd.Config) { c.Timeouts.Patience = 300 * time.Millisecond })
	playing := h.begin(a)
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	h.mediad.next(t)
	asking := h.begin(a)
	q := h.sessiond.asked(t)
	h.mediad.goAway(true)
	for range 2 {
		if got := receive(t, h.sessiond.alarms, "an alarm"); got.Error != "mediaServerError" {
			t.Errorf("alarm is %+v", got)
		}
		end := receive(t, h.sessiond.ends, "an end")
		if end.GetOutcome() != sessionpb.EndDialogueRequest_OUTCOME_FAILED {
			t.Errorf("end is %v", end)
		}
		if p := end.GetParticipantId(); p != playing.participant && p != asking.participant {
			t.Errorf("end of %s", p)
		}
	}
	q.answer(`{"hangup":true}`)
	silent(t, h.sessiond.ends, "another end")
}

// TestClipsComeAndGo: mediad may forget a clip between two steps.
func TestClipsComeAndGo(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.recordingd.put(domain, "long.wav", wav(440, 200_000)) // several chunks
	c := h.begin(h.ivrd("a"))
	for n := range 3 {
		h.sessiond.answer(t, `{"phrases":[{"format":"file","fileName":"long.wav"},{"format":"file","fileName":"long.wav"}],
			"backgroundPrompt":{"fileName":"long.wav","repeatPause":2}}`)
		step := h.mediad.next(t)
		if len(step.GetPlaylist()) != 2 || step.GetBackground().GetClipId() != step.GetPlaylist()[0] ||
			step.GetBackground().GetRepeatPause().AsDuration() != 2*time.Second {
			t.Errorf("step is %v", step)
		}
		wantPuts := 1 // the second turn finds it there
		if n == 2 {
			wantPuts = 2
		}
		h.mediad.mu.Lock()
		if got := len(h.mediad.clips[step.GetPlaylist()[0]]); got != 400_000 || h.mediad.puts != wantPuts {
			t.Errorf("clip of %d bytes, put %d times", got, h.mediad.puts)
		}
		h.mediad.mu.Unlock()
		if n == 1 {
			h.mediad.forgetClips()
		}
		h.mediad.finish(t, c.leg, done(step))
	}
	if h.recordingd.sent != 1 {
		t.Errorf("the file was read %d times", h.recordingd.sent)
	}
}

// TestSessiondAway: questions, alarms and ends survive a moment without sessiond.
func TestSessiondAway(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.sessiond.refuse(2)
	h.begin(h.ivrd("a"))
	q := h.sessiond.asked(t)
	h.sessiond.refuse(2)
	q.answer("garbage")
	receive(t, h.sessiond.alarms, "the alarm")
	receive(t, h.sessiond.ends, "the end")
	silent(t, h.sessiond.alarms, "another alarm")
}

// TestStopOvertakesStart: the caller hangs up while the dialogue is starting.
func TestStopOvertakesStart(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	c := h.call()
	stalled := make(chan struct{})
	a.line.mu.Lock()
	a.line.stall = map[string]chan struct{}{"hget": stalled} // what a start does first
	a.line.mu.Unlock()
	started, stopped := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := a.client.Start(t.Context(), c.start())
		started <- err
	}()
	h.until(func() bool { return len(a.line.waiting()) > 0 })
	go func() {
		_, err := a.client.Stop(t.Context(), &ivrpb.StopRequest{SessionId: c.session, ParticipantId: c.participant})
		stopped <- err
	}()
	silent(t, stopped, "the stop before the start was done")
	close(stalled)
	if err := receive(t, started, "the start"); err != nil {
		t.Error(err)
	}
	if err := receive(t, stopped, "the stop"); err != nil {
		t.Error(err)
	}
	for len(h.sessiond.asks) > 0 {
		<-h.sessiond.asks // asked between the two, if at all
	}
	silent(t, h.sessiond.asks, "a question after the stop")
	if over := h.rdb.HGet(t.Context(), h.keys(t, "*:dialogue:*")[0], "over").Val(); over != "1" {
		t.Errorf("over is %q", over)
	}
}

func TestPhraseByURL(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(wav(440, 100)) }))
	defer web.Close()
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	c := h.call()
	req := c.start()
	req.AllowPrivate = true
	if _, err := a.client.Start(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	h.sessiond.answer(t, `{"phrases":[{"format":"url","url":"`+web.URL+`/a.wav"}]}`)
	if step := h.mediad.next(t); len(step.GetPlaylist()) != 1 {
		t.Errorf("step is %v", step)
	}
}

// TestInterruptDuringAFetch does not wait for the fetch.
func TestInterruptDuringAFetch(t *testing.T) {
	release := make(chan struct{})
	asked := make(chan struct{}, 10)
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer web.Close()
	defer close(release)
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	c := h.call()
	req := c.start()
	req.AllowPrivate = true
	if _, err := a.client.Start(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	q := h.sessiond.answer(t, `{"phrases":[{"format":"url","url":"`+web.URL+`"}]}`)
	receive(t, asked, "the fetch")
	if _, err := a.client.Interrupt(t.Context(), &ivrpb.InterruptRequest{ParticipantId: c.participant, CommandId: q.GetCommandId()}); err != nil {
		t.Fatal(err)
	}
	if next := h.sessiond.asked(t); next.GetCommandId() != "3.2" {
		t.Errorf("asked for %s", next.GetCommandId())
	}
	silent(t, h.mediad.steps, "a step")
}

// TestInterruptBeforeTheAnswer: the application may interrupt the command that
// it is just answering.
func TestInterruptBeforeTheAnswer(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	c := h.begin(a)
	q := h.sessiond.asked(t)
	if _, err := a.client.Interrupt(t.Context(), &ivrpb.InterruptRequest{ParticipantId: c.participant, CommandId: q.GetCommandId()}); err != nil {
		t.Fatal(err)
	}
	q.answer(`{"getIVRCommandAfter":60}`)
	h.sessiond.answer(t, `{"getIVRCommandAfter":30}`)
	if step := h.mediad.next(t); step.GetAfter().AsDuration() != 30*time.Second {
		t.Errorf("step is %v", step)
	}
}

// TestFirstCommand: a start may bring what to play before the application is
// asked.
func TestFirstCommand(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.recordingd.put(domain, "sorry.wav", wav(440, 100))
	a := h.ivrd("a")
	c := h.call()
	req := c.start()
	req.Command = []byte(`{"phrases":[{"format":"file","fileName":"sorry.wav"}],"hangup":true}`)
	if _, err := a.client.Start(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	step := h.mediad.next(t)
	h.mediad.finish(t, c.leg, done(step))
	receive(t, h.sessiond.ends, "the end")
	silent(t, h.sessiond.asks, "a question")

	bad := h.call().start()
	bad.Command = []byte(`{"hangup":7}`)
	if _, err := a.client.Start(t.Context(), bad); fault.From(err).Field != "command" {
		t.Errorf("a bad command: %v", err)
	}
}

func TestWhoMayCall(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	h.ivrd("a")
	for service, want := range map[string]codes.Code{"gateway": codes.PermissionDenied, "mediad": codes.PermissionDenied} {
		dialer := grpckit.NewDialer(h.mesh, h.signer, service)
		conn, err := dialer.Service("ivrd")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ivrpb.NewDialoguesClient(conn).Start(t.Context(), h.call().start()); status.Code(err) != want {
			t.Errorf("%s: %v", service, err)
		}
		if err := dialer.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestCapacity(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a", func(c *ivrd.Config) { c.MaxDialogues = 2 })
	first := h.begin(a)
	h.begin(a)
	if _, err := a.client.Start(t.Context(), h.call().start()); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("one too many: %v", err)
	}
	h.stop(a, first)
	h.begin(a)
}

// TestIdleDialoguesCostNoGoroutine: while a prompt plays nothing of ours waits.
func TestIdleDialoguesCostNoGoroutine(t *testing.T) {
	h := newHouse(t, redistest.Mini(t))
	a := h.ivrd("a")
	h.begin(a)
	h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
	h.mediad.next(t)
	before := runtime.NumGoroutine()
	const calls = 200
	for range calls {
		h.begin(a)
		h.sessiond.answer(t, `{"getIVRCommandAfter":60}`)
		h.mediad.next(t)
	}
	h.until(func() bool { return runtime.NumGoroutine() < before+calls/10 })
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]func(*ivrd.Config){
		"timeouts.ask":     func(c *ivrd.Config) { c.Timeouts.Ask = 0 },
		"audio.cacheBytes": func(c *ivrd.Config) { c.Audio.CacheBytes = -1 },
		"maxDialogues":     func(c *ivrd.Config) { c.MaxDialogues = 0 },
		"takeover.expiry":  func(c *ivrd.Config) { c.Takeover.Expiry = c.Takeover.Heartbeat },
	} {
		cfg := ivrd.Defaults()
		change(&cfg)
		if _, err := ivrd.Parts(cfg, daemon.Env{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ivrd.Parts(ivrd.Defaults(), daemon.Env{}); err == nil || !strings.Contains(err.Error(), "redis") {
		t.Errorf("without a store: %v", err)
	}
}
