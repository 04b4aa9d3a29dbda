package control

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/callmesh/callmesh/kit/partition"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
	mediapb "github.com/callmesh/callmesh/proto/gen/callmesh/media/v1"
	sessionpb "github.com/callmesh/callmesh/proto/gen/callmesh/session/v1"
	"github.com/callmesh/callmesh/sessiond/internal/call"
	"github.com/callmesh/callmesh/sessiond/internal/dialog"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/media"
	"github.com/callmesh/callmesh/sessiond/internal/record"
	"github.com/callmesh/callmesh/sessiond/internal/reply"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/ua"
)

// world is everything around control, and what it was asked to do.
type world struct {
	mu sync.Mutex
	// fail is returned by that many next writes.
	fail  error
	times int

	entries []lane.Entry
	ended   int
	byes    int
	closed  int
	stopped int
	forgot  int
	// answer holds BYEs back until it is closed.
	answer chan struct{}
}

func (w *world) Save(_ context.Context, write store.Write) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.times > 0 {
		w.times--
		return 0, w.fail
	}
	w.entries = append(w.entries, write.Append...)
	if write.Ended {
		w.ended++
	}
	return write.Version + 1, nil
}

func (w *world) Load(context.Context, uuid.UUID) (store.Stored, error) {
	return store.Stored{}, store.ErrNotFound
}
func (w *world) NextNumber(context.Context, int) (int64, error) { return 1, nil }
func (w *world) Append(context.Context, store.Fence, ...lane.Entry) ([]lane.Result, error) {
	return []lane.Result{lane.Queued}, nil
}

func (w *world) Route(string, string) (*directorypb.Domain, bool) { return w.Domain("") }
func (w *world) Domain(string) (*directorypb.Domain, bool) {
	return &directorypb.Domain{Name: "a.test", Application: &directorypb.Application{Url: "http://app", Alarms: "http://app/alarms"}}, true
}

func (w *world) OpenLeg(context.Context, media.Open) (media.Opened, error) {
	return media.Opened{}, errors.New("not asked for here")
}
func (w *world) UpdateLeg(context.Context, string, string, *mediapb.Description) error { return nil }
func (w *world) InjectDigit(context.Context, string, string, string, time.Duration) error {
	return nil
}

func (w *world) CloseLeg(context.Context, string, string) (call.Statistics, error) {
	w.count(&w.closed)
	return call.Statistics{PacketsSent: 150}, nil
}

func (w *world) Start(context.Context, Dialogue) (string, error) { return "ivrd", nil }
func (w *world) Stop(context.Context, string, uuid.UUID, uuid.UUID) error {
	w.count(&w.stopped)
	return nil
}
func (w *world) Interrupt(context.Context, string, uuid.UUID, uuid.UUID, string) error { return nil }
func (w *world) Ask(context.Context, *directorypb.Domain, Question) ([]byte, error)    { return nil, nil }

func (w *world) Bye(ctx context.Context, _ *dialog.Dialog, _ ...ua.Header) error {
	w.count(&w.byes)
	select {
	case <-w.answer:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
func (w *world) Forget(ua.LegRef) { w.count(&w.forgot) }

func (w *world) count(n *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n++
}

func (w *world) control(t *testing.T) *Control {
	t.Helper()
	c, err := New(Deps{
		Instance: "B", Store: w, Directory: w, Media: w, Dialogues: w, Application: w,
		Reply: reply.NewSigner(make([]byte, 32), time.Now), PartitionKey: make([]byte, 32),
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Connect(w)
	return c
}

// left is a session as a dead instance left it, at the stage.
func left(t *testing.T, stage call.Stage) store.Stored {
	t.Helper()
	s := call.Invite(call.Session{ID: partition.NewID(3), Domain: "a.test"}, partition.NewID(3), time.Now())
	var dialogs []*sessionpb.Dialog
	for _, step := range []struct {
		reach call.Stage
		by    call.Event
	}{
		{call.Opening, call.Decided{Decision: call.Decision{Action: call.ActionIVR}}},
		{call.Accepted, call.LegOpened{LegID: "leg"}},
		{call.Talking, call.Acked{}},
		{call.Closing, call.ByeReceived{}},
	} {
		if s.Stage == stage {
			break
		}
		next, _, err := s.Apply(step.by, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		s = next
		if s.Stage == call.Accepted {
			dialogs = []*sessionpb.Dialog{{Leg: 1, CallId: "c", LocalTag: "l", RemoteTag: "r"}}
		}
	}
	b, err := record.Encode(record.Stored{Session: s, Dialogs: dialogs})
	if err != nil {
		t.Fatal(err)
	}
	return store.Stored{ID: s.ID, Domain: s.Domain, Record: b, Owner: "B", Epoch: 2, Version: 5}
}

func (w *world) completed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.entries {
		if e.Kind == lane.SessionCompleted {
			n++
		}
	}
	return n
}

// Wherever a dead instance left a session, the one that claims it ends it,
// accounts for it once, and keeps nothing.
func TestAnOrphanIsAccountedForFromAnyStage(t *testing.T) {
	for stage, want := range map[call.Stage]struct{ byes, closed int }{
		call.Deciding: {0, 0}, call.Opening: {0, 0}, call.Accepted: {1, 1}, call.Talking: {1, 1}, call.Closing: {0, 0},
	} {
		t.Run(string(stage), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{answer: make(chan struct{})}
				close(w.answer)
				c := w.control(t)
				if err := c.Adopt(t.Context(), left(t, stage)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if w.completed() != 1 || w.ended != 1 || c.Active() != 0 {
					t.Errorf("completed %d, archived %d, still held %d", w.completed(), w.ended, c.Active())
				}
				if w.byes != want.byes || w.closed != want.closed {
					t.Errorf("byes %d, legs closed %d, want %+v", w.byes, w.closed, want)
				}
			})
		})
	}
}

// What neither Redis nor the journal took goes with a later write: nothing of
// the session's end is lost, and nothing is said twice.
func TestTheEndIsStoredInTheEnd(t *testing.T) {
	for name, fail := range map[string]error{"unavailable": store.ErrUnavailable, "any other": errors.New("disk full")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{fail: fail, times: 12, answer: make(chan struct{})}
				close(w.answer)
				c := w.control(t)
				if err := c.Adopt(t.Context(), left(t, call.Talking)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute) // of the bubble
				synctest.Wait()
				if w.completed() != 1 || w.ended != 1 || c.Active() != 0 {
					t.Errorf("completed %d, archived %d, still held %d", w.completed(), w.ended, c.Active())
				}
			})
		})
	}
}

func TestASessionThatAnotherClaimedIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{fail: store.ErrStaleEpoch, times: 1, answer: make(chan struct{})}
		c := w.control(t)
		if err := c.Adopt(t.Context(), left(t, call.Talking)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if c.Active() != 0 || w.byes != 0 || w.closed != 0 || w.completed() != 0 || w.forgot != 1 {
			t.Errorf("held %d, byes %d, legs closed %d, completed %d, forgotten %d", c.Active(), w.byes, w.closed, w.completed(), w.forgot)
		}
	})
}

// A session stays until its BYE is answered, as the UA needs the dialog until
// then; Drain gives up in time to leave the daemon's other parts their share.
func TestDrainLetsBYEsBeAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: make(chan struct{})}
		c := w.control(t)
		if err := c.Adopt(t.Context(), left(t, call.Talking)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w.completed() != 1 || c.Active() != 1 || w.forgot != 0 {
			t.Fatalf("completed %d, held %d, forgotten %d while BYE is out", w.completed(), c.Active(), w.forgot)
		}
		drained := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			drained <- c.Drain(ctx)
		}()
		synctest.Wait()
		close(w.answer)
		if err := <-drained; err != nil {
			t.Error(err)
		}
		if c.Active() != 0 || w.forgot != 1 {
			t.Errorf("held %d, forgotten %d", c.Active(), w.forgot)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := &world{answer: make(chan struct{})} // the far end is gone
		c := w.control(t)
		if err := c.Adopt(t.Context(), left(t, call.Talking)); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.Drain(ctx); err != nil {
			t.Errorf("an unanswered BYE of a session that is accounted for: %v", err)
		}
		if took := time.Since(begin); took > 10*time.Second-leaveForOthers {
			t.Errorf("Drain took %v of 10 s", took)
		}
	})
}
