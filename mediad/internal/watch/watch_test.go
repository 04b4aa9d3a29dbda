package watch_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/callmesh/callmesh/mediad/internal/watch"
)

func newHub() (*watch.Hub, *time.Time) {
	now := time.Unix(0, 0)
	return watch.NewHub(func() time.Time { return now }), &now
}

func id(leg string) watch.Identity {
	return watch.Identity{Leg: leg, Session: "s", Participant: "p"}
}

func mustWatch(t *testing.T, h *watch.Hub, controller string, seen map[string]uint64) *watch.Watcher {
	t.Helper()
	w, _, err := h.Watch(controller, seen)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// read takes what waits: "a1 b1 a2".
func read(w *watch.Watcher) string {
	out := ""
	for _, e := range w.Backlog() {
		out += fmt.Sprintf("(%s%d) ", e.Leg, e.Sequence)
	}
	for {
		select {
		case e := <-w.Events():
			out += fmt.Sprintf("%s%d ", e.Leg, e.Sequence)
		default:
			return out
		}
	}
}

func TestEventsGoToTheLegsControllers(t *testing.T) {
	h, _ := newHub()
	h.Add(id("a"), "one")
	h.Add(id("b"), "two")
	one, two := mustWatch(t, h, "one", nil), mustWatch(t, h, "two", nil)
	h.Publish("a", nil)
	h.Publish("b", nil)
	h.Attach("a", "two") // gets what it missed
	h.Attach("a", "two")
	h.Publish("a", nil)
	h.Publish("unknown", nil)
	if got := read(one); got != "a1 a2 " {
		t.Errorf("one saw %s", got)
	}
	if got := read(two); got != "b1 a1 a2 " {
		t.Errorf("two saw %s", got)
	}
}

func TestAWatchResumesBehindItsCursors(t *testing.T) {
	h, _ := newHub()
	h.Add(id("a"), "one")
	h.Add(id("b"), "one")
	for range 3 {
		h.Publish("a", nil)
	}
	h.Publish("b", nil)
	w, unknown, err := h.Watch("one", map[string]uint64{"a": 2, "gone": 7})
	if err != nil || len(unknown) != 1 || unknown[0] != "gone" {
		t.Fatalf("unknown %v, %v", unknown, err)
	}
	// b was never named: everything of it is news.
	if got := read(w); got != "(a3) (b1) " && got != "(b1) (a3) " {
		t.Errorf("backlog %s", got)
	}
}

func TestACursorAttaches(t *testing.T) {
	h, _ := newHub()
	h.Add(id("a"), "sessiond")
	h.Attach("a", "ivrd-1")
	h.Publish("a", nil)
	successor := mustWatch(t, h, "ivrd-2", map[string]uint64{"a": 0})
	h.Publish("a", nil)
	if got := read(successor); got != "(a1) a2 " {
		t.Errorf("the successor saw %s", got)
	}
}

func TestTheLast64AreKept(t *testing.T) {
	h, _ := newHub()
	h.Add(id("a"), "one")
	for range 100 {
		h.Publish("a", nil)
	}
	backlog := mustWatch(t, h, "one", nil).Backlog()
	if len(backlog) != watch.Kept || backlog[0].Sequence != 37 {
		t.Errorf("%d kept, from %d", len(backlog), backlog[0].Sequence)
	}
}

func TestTheCreatorIsNeverPushedOut(t *testing.T) {
	h, _ := newHub()
	h.Add(id("a"), "creator")
	for i := range 10 {
		h.Attach("a", fmt.Sprint("ivrd-", i))
	}
	creator, first, last := mustWatch(t, h, "creator", nil), mustWatch(t, h, "ivrd-0", nil), mustWatch(t, h, "ivrd-9", nil)
	h.Publish("a", nil)
	if read(creator) != "a1 " || read(last) != "a1 " || read(first) != "" {
		t.Error("wrong controllers kept")
	}
}

func TestASlowWatcherIsCutOffAndResumes(t *testing.T) {
	h, _ := newHub()
	h.Add(id("a"), "one")
	slow := mustWatch(t, h, "one", nil)
	for range 2000 {
		h.Publish("a", nil)
	}
	select {
	case <-slow.Done():
	default:
		t.Fatal("still there")
	}
	if !errors.Is(slow.Err(), watch.ErrSlow) {
		t.Errorf("err = %v", slow.Err())
	}
	slow.Close() // must not matter
	again := mustWatch(t, h, "one", map[string]uint64{"a": 1990})
	if len(again.Backlog()) != 10 {
		t.Errorf("%d events to catch up", len(again.Backlog()))
	}
}

func TestUnattendedLegs(t *testing.T) {
	h, now := newHub()
	h.Add(id("a"), "one")
	h.Add(id("b"), "two")
	w := mustWatch(t, h, "one", nil)
	*now = now.Add(61 * time.Second)
	if got := h.Unattended(time.Minute); len(got) != 1 || got[0] != "b" {
		t.Fatalf("unattended %v", got)
	}
	h.Attach("b", "one")
	w.Close()
	*now = now.Add(59 * time.Second)
	if got := h.Unattended(time.Minute); len(got) != 0 {
		t.Errorf("unattended %v within the minute after the watch", got)
	}
	*now = now.Add(2 * time.Second)
	if got := h.Unattended(time.Minute); len(got) != 2 {
		t.Errorf("unattended %v", got)
	}
}

func TestCloseEndsWatches(t *testing.T) {
	h, _ := newHub()
	w := mustWatch(t, h, "one", nil)
	h.Close()
	<-w.Done()
	if !errors.Is(w.Err(), watch.ErrClosed) {
		t.Errorf("err = %v", w.Err())
	}
	if _, _, err := h.Watch("one", nil); !errors.Is(err, watch.ErrClosed) {
		t.Errorf("err = %v", err)
	}
}

// Whatever the interleaving, a watcher that resumes where it stopped sees
// every event once and in order.
func TestNoEventIsLostOrDoubledOverReconnects(t *testing.T) {
	h, _ := newHub()
	h.Add(id("a"), "one")
	const events = 20_000
	var wg sync.WaitGroup
	paced := make(chan struct{}, 32) // fewer in flight than are kept
	wg.Go(func() {
		for range events {
			paced <- struct{}{}
			h.Publish("a", nil)
		}
	})
	last := uint64(0)
	take := func(e watch.Event) {
		if e.Sequence != last+1 {
			t.Fatalf("event %d after %d", e.Sequence, last)
		}
		last = e.Sequence
		<-paced
	}
	for last < events {
		w := mustWatch(t, h, "one", map[string]uint64{"a": last})
		for _, e := range w.Backlog() {
			take(e)
		}
		for range 50 {
			if last == events {
				break
			}
			take(<-w.Events())
		}
		w.Close()
	}
	wg.Wait()
}
