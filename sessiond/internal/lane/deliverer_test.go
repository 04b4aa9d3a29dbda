package lane_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// instance is a sessiond as far as lanes are concerned.
type instance struct {
	store     *store.Store
	deliverer *lane.Deliverer
	stop      func()
}

// start runs an instance until its stop is called or the test ends. options may
// change what it is started with.
func start(t *testing.T, rdb redis.UniversalClient, send func(context.Context, lane.Delivery) error, options func(*lane.Options)) *instance {
	t.Helper()
	o := lane.Options{Send: send}
	if options != nil {
		options(&o)
	}
	d, err := lane.NewDeliverer(rdb, quiet, prometheus.NewRegistry(), o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.New(rdb, store.Options{CallSecret: make([]byte, 16), Lanes: d})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.Run(ctx) })
	if l, ok := o.Leases.(*lease.Leases); ok {
		wg.Go(func() { _ = l.Run(ctx) })
	}
	stop := sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return &instance{store: s, deliverer: d, stop: stop}
}

// sink notes what it receives, in order of arrival, by lane.
type sink struct {
	mu   sync.Mutex
	got  map[string][]string // target: dedupe keys
	ids  map[string]map[string]bool
	fail func(lane.Delivery) error
}

func newSink() *sink { return &sink{got: map[string][]string{}, ids: map[string]map[string]bool{}} }

func (s *sink) send(_ context.Context, d lane.Delivery) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := d.DedupeKey
	if s.ids[key] == nil {
		s.ids[key] = map[string]bool{}
	}
	s.ids[key][d.ID] = true
	if s.fail != nil {
		if err := s.fail(d); err != nil {
			return err
		}
	}
	s.got[d.Target] = append(s.got[d.Target], key)
	return nil
}

func (s *sink) received(target string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[target])
}

func entry(session uuid.UUID, target string, kind lane.Kind, dedupe string) lane.Entry {
	return lane.Entry{
		ID: uuid.NewString(), Session: session, Domain: "demo.callmesh.test", Target: target, URL: target + "/" + string(kind),
		Kind: kind, DedupeKey: dedupe, Body: []byte(`{"a":"<&>"}`),
	}
}

func appendAll(t *testing.T, s *store.Store, entries ...lane.Entry) {
	t.Helper()
	for _, e := range entries {
		r, err := s.Append(t.Context(), store.Fence{}, e)
		if err != nil || r[0] != lane.Queued {
			t.Fatalf("append %s: %v, %v", e.DedupeKey, r, err)
		}
	}
}

func until(t *testing.T, what string, good func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !good() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

const app, status = "http://app.test/hook?key=secret", "http://status.test"

func TestLanesDeliverInOrderOnAnyRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSink()
		i := start(t, rdb, s.send, nil)
		var want []string
		session := partition.NewID(63)
		for n := range 100 {
			key := fmt.Sprint(n)
			want = append(want, key)
			appendAll(t, i.store, entry(session, app, lane.CallNotify, key), entry(session, status, lane.SessionStatus, key))
		}
		until(t, "both lanes", func() bool { return len(s.received(app)) >= 100 && len(s.received(status)) >= 100 })
		for _, target := range []string{app, status} {
			if got := s.received(target); !slices.Equal(got, want) {
				t.Errorf("%s received %v", target, got)
			}
		}
		i.stop() // what was sent is settled by then
		// Nothing is left behind but the dedupe keys, which expire.
		keys, err := allKeys(t.Context(), rdb)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			if ttl := rdb.PTTL(t.Context(), k).Val(); ttl <= 0 && k != "cm:{p63}:due:fence" {
				t.Errorf("%s is left for ever", k)
			}
		}
	})
}

func allKeys(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return rdb.Keys(ctx, "*").Result()
	}
	var mu sync.Mutex
	var keys []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error {
		k, err := m.Keys(ctx, "*").Result()
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, k...)
		return err
	})
	return keys, err
}

func TestPolicies(t *testing.T) {
	down := errors.New("down")
	tests := []struct {
		kind      lane.Kind
		permanent bool
		attempts  int // made before it is given up; 0 for what goes on for 72 hours
		dead      bool
	}{
		{kind: lane.CallNotify, attempts: 3},
		{kind: lane.CallAnswered, attempts: 3},
		{kind: lane.Alarm, attempts: 3},
		{kind: lane.Alarm, permanent: true, attempts: 1},
		{kind: lane.SessionCompleted, dead: true},
		{kind: lane.RecordingReady, dead: true},
		{kind: lane.CDR, dead: true},
		{kind: lane.CDR, permanent: true, attempts: 1, dead: true},
		{kind: "of a later version", dead: true},
	}
	for _, tc := range tests {
		name := fmt.Sprintf("%s permanent=%t", tc.kind, tc.permanent)
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rdb := redistest.Mini(t)
				s := newSink()
				var attempts []time.Time
				s.fail = func(d lane.Delivery) error {
					if d.DedupeKey == "next" {
						return nil
					}
					attempts = append(attempts, time.Now())
					if d.Attempt != len(attempts) {
						t.Errorf("attempt %d is told as %d", len(attempts), d.Attempt)
					}
					if tc.permanent {
						return lane.Permanent(down)
					}
					return down
				}
				i := start(t, rdb, s.send, func(o *lane.Options) {
					o.Leases, o.Scan = holding(t, rdb, 9), 5*time.Minute
				})
				session := partition.NewID(9)
				began := time.Now()
				appendAll(t, i.store, entry(session, app, tc.kind, "first"), entry(session, app, lane.CallNotify, "next"))
				time.Sleep(71 * time.Hour)
				synctest.Wait()
				s.mu.Lock()
				n := len(attempts)
				s.mu.Unlock()
				if tc.attempts > 0 && n != tc.attempts {
					t.Errorf("%d attempts, want %d", n, tc.attempts)
				}
				if tc.attempts == 0 && n < 71 {
					t.Errorf("%d attempts in 71 hours, want one an hour at least", n)
				}
				if tc.attempts == 0 && len(s.received(app)) != 0 {
					t.Error("a later entry overtook one that is still tried")
				}
				time.Sleep(4 * time.Hour)
				synctest.Wait()
				if got := s.received(app); !slices.Equal(got, []string{"next"}) {
					t.Errorf("after 75 hours the lane delivered %v, want the next entry", got)
				}
				if tc.attempts == 0 {
					s.mu.Lock()
					last := attempts[len(attempts)-1].Sub(began)
					s.mu.Unlock()
					if last < 72*time.Hour || last > 74*time.Hour {
						t.Errorf("the last attempt came after %s", last)
					}
				}
				var letters []lane.DeadLetter
				for l, err := range i.deliverer.Dead(t.Context(), "demo.callmesh.test") {
					if err != nil {
						t.Fatal(err)
					}
					letters = append(letters, l)
				}
				if (len(letters) == 1) != tc.dead {
					t.Errorf("%d dead letters", len(letters))
				}
				if ids := s.ids["first"]; len(ids) != 1 {
					t.Errorf("the attempts had %d ids", len(ids))
				}
				i.stop()
			})
		})
	}
}

// fixed are leases that are held for ever: renewing them over three days of a
// bubble's time is not what the tests are about.
type fixed []lease.Held

func (f fixed) Held() []lease.Held { return f }

func holding(t *testing.T, rdb redis.UniversalClient, p int) fixed {
	t.Helper()
	if err := rdb.Set(t.Context(), lease.Key(p), "tester/1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	return fixed{{Partition: p, Token: "tester/1", Fence: 1}}
}

func TestALaneThatFailsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		s := newSink()
		s.fail = func(d lane.Delivery) error {
			if d.Target == status {
				return errors.New("down")
			}
			return nil
		}
		i := start(t, rdb, s.send, nil)
		session, other := partition.NewID(1), partition.NewID(1)
		appendAll(t, i.store,
			entry(session, status, lane.SessionCompleted, "a"), entry(session, app, lane.SessionCompleted, "b"),
			entry(other, app, lane.SessionCompleted, "c"))
		synctest.Wait()
		if got := s.received(app); len(got) != 2 {
			t.Errorf("delivered %v", got)
		}
		i.stop()
	})
}

func TestConcurrencyIsBoundedPerHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		var mu sync.Mutex
		now, most := map[string]int{}, map[string]int{}
		send := func(ctx context.Context, d lane.Delivery) error {
			mu.Lock()
			now[d.Target]++
			most[d.Target] = max(most[d.Target], now[d.Target])
			mu.Unlock()
			if d.Target == app {
				time.Sleep(5 * time.Second)
			}
			mu.Lock()
			now[d.Target]--
			mu.Unlock()
			return nil
		}
		i := start(t, rdb, send, func(o *lane.Options) { o.PerHost = 4; o.Concurrent = 6 })
		for n := range 40 {
			appendAll(t, i.store, entry(partition.NewID(n), app, lane.CDR, "a"))
		}
		synctest.Wait()
		began := time.Now()
		appendAll(t, i.store, entry(partition.NewID(1), status, lane.CDR, "b"))
		synctest.Wait()
		mu.Lock()
		if most[app] != 4 {
			t.Errorf("%d requests to one host at a time, want 4", most[app])
		}
		if most[status] != 1 || time.Since(began) > time.Second {
			t.Error("a slow host held up another")
		}
		mu.Unlock()
		time.Sleep(time.Minute)
		i.stop()
	})
}

func TestAnEntryOfADeadInstanceIsDeliveredByAnother(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		// The dead one appended, and perhaps took, but delivered nothing.
		dead, err := store.New(rdb, store.Options{CallSecret: make([]byte, 16)})
		if err != nil {
			t.Fatal(err)
		}
		session := partition.NewID(33)
		appendAll(t, dead, entry(session, app, lane.SessionCompleted, "1"), entry(session, app, lane.SessionCompleted, "2"))
		s := newSink()
		leases := lease.New(rdb, "heir", quiet, lease.Options{TTL: 400 * time.Millisecond})
		start(t, rdb, s.send, func(o *lane.Options) {
			o.Leases, o.Scan, o.Grace = leases, 20*time.Millisecond, 50*time.Millisecond
		})
		until(t, "the heir", func() bool { return slices.Equal(s.received(app), []string{"1", "2"}) })
	})
}

func TestAnAttemptThatACrashCutShortIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		hang, crashed := make(chan struct{}), make(chan struct{})
		first := start(t, &severed{UniversalClient: rdb, cut: hang}, func(context.Context, lane.Delivery) error {
			close(hang) // from here on this instance reaches Redis no more
			<-crashed
			return nil
		}, nil)
		session := partition.NewID(2)
		appendAll(t, first.store, entry(session, app, lane.SessionCompleted, "x"))
		<-hang
		s := newSink()
		leases := lease.New(rdb, "second", quiet, lease.Options{})
		second := start(t, rdb, s.send, func(o *lane.Options) { o.Leases = leases })
		time.Sleep(14 * time.Second)
		if got := s.received(app); len(got) != 0 {
			t.Errorf("%v was sent while the first attempt could still be under way", got)
		}
		time.Sleep(8 * time.Second)
		if got := s.received(app); !slices.Equal(got, []string{"x"}) {
			t.Errorf("delivered %v", got)
		}
		close(crashed)
		time.Sleep(time.Second)
		first.stop()
		second.stop()
	})
}

// severed is a Redis that an instance can no longer reach once cut is closed.
type severed struct {
	redis.UniversalClient
	cut chan struct{}
}

func (s *severed) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	select {
	case <-s.cut:
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(errors.New("cut off"))
		return cmd
	default:
		return s.UniversalClient.EvalSha(ctx, sha, keys, args...)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		s := newSink()
		i := start(t, rdb, func(ctx context.Context, d lane.Delivery) error {
			time.Sleep(500 * time.Millisecond)
			return s.send(ctx, d)
		}, nil)
		session := partition.NewID(4)
		wait := func(limit time.Duration) (bool, time.Duration) {
			began := time.Now()
			ok := i.deliverer.Wait(t.Context(), session, app, limit)
			return ok, time.Since(began)
		}
		if ok, took := wait(2 * time.Second); !ok || took != 0 {
			t.Errorf("an empty lane: %t after %s", ok, took)
		}
		appendAll(t, i.store, entry(session, app, lane.CallNotify, "1"), entry(session, app, lane.CallNotify, "2"))
		done := make(chan struct{})
		go func() { // entries that come later are not waited for
			defer close(done)
			time.Sleep(100 * time.Millisecond)
			if _, err := i.store.Append(t.Context(), store.Fence{}, entry(session, app, lane.CallNotify, "3")); err != nil {
				t.Error(err)
			}
		}()
		if ok, took := wait(2 * time.Second); !ok || took < 900*time.Millisecond || took > 1100*time.Millisecond {
			t.Errorf("two entries of half a second: %t after %s", ok, took)
		}
		if got := s.received(app); !slices.Equal(got, []string{"1", "2"}) {
			t.Errorf("delivered %v", got)
		}
		<-done
		for n := range 6 {
			appendAll(t, i.store, entry(session, app, lane.CallNotify, fmt.Sprint("more", n)))
		}
		if ok, took := wait(2 * time.Second); ok || took != 2*time.Second {
			t.Errorf("seven entries of half a second: %t after %s", ok, took)
		}
		time.Sleep(10 * time.Second)
		i.stop()
	})
}

func TestDeadLettersAreReplayedAndDiscarded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSink()
		broken := true
		s.fail = func(lane.Delivery) error {
			if broken {
				return lane.Permanent(errors.New("refused"))
			}
			return nil
		}
		i := start(t, rdb, s.send, nil)
		session := partition.NewID(5)
		appendAll(t, i.store, entry(session, app, lane.CDR, "a"), entry(session, app, lane.CDR, "b"))
		letters := func() (list []lane.DeadLetter) {
			for l, err := range i.deliverer.Dead(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, l)
			}
			return list
		}
		until(t, "two dead letters", func() bool { return len(letters()) == 2 })
		dead := letters()
		if l := dead[0]; l.Entry.DedupeKey != "a" || l.Reason != "refused" || l.Attempts != 1 || string(l.Entry.Body) != `{"a":"<&>"}` {
			t.Errorf("letter %+v", l)
		}
		for l, err := range i.deliverer.Dead(t.Context(), "other.callmesh.test") {
			t.Errorf("another domain sees %+v, %v", l, err)
		}
		if err := i.deliverer.Replay(t.Context(), dead[0].ID); err != nil {
			t.Fatal(err)
		}
		until(t, "it to die again", func() bool { l := letters(); return len(l) == 2 && l[1].Entry.DedupeKey == "a" })
		s.mu.Lock()
		broken = false
		s.mu.Unlock()
		if err := i.deliverer.Replay(t.Context(), dead[0].ID); err != nil {
			t.Fatal(err)
		}
		until(t, "the replay", func() bool { return slices.Equal(s.received(app), []string{"a"}) })
		if err := i.deliverer.Discard(t.Context(), dead[1].ID); err != nil {
			t.Fatal(err)
		}
		if l := letters(); len(l) != 0 {
			t.Errorf("left: %+v", l)
		}
		for _, id := range []string{dead[0].ID, "x", "", "0/0"} {
			if i.deliverer.Replay(t.Context(), id) == nil || i.deliverer.Discard(t.Context(), id) == nil {
				t.Errorf("letter %q was found", id)
			}
		}
		if ids := s.ids["a"]; len(ids) != 1 {
			t.Errorf("its attempts had %d ids", len(ids))
		}
	})
}

func TestAPanicOfTheSenderIsAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		s := newSink()
		s.fail = func(d lane.Delivery) error {
			if d.Attempt == 1 {
				panic("a bug")
			}
			return nil
		}
		i := start(t, rdb, s.send, nil)
		appendAll(t, i.store, entry(partition.NewID(1), app, lane.Alarm, "a"))
		time.Sleep(10 * time.Second)
		if got := s.received(app); len(got) != 1 {
			t.Errorf("delivered %v", got)
		}
		i.stop()
	})
}

func TestALaneOfBriefEntriesIsBounded(t *testing.T) {
	rdb := redistest.Mini(t)
	s, err := store.New(rdb, store.Options{CallSecret: make([]byte, 16)})
	if err != nil {
		t.Fatal(err)
	}
	session := partition.NewID(1)
	var batch []lane.Entry
	for n := range 1000 {
		batch = append(batch, entry(session, app, lane.CallNotify, fmt.Sprint(n)))
	}
	if _, err := s.Append(t.Context(), store.Fence{}, batch...); err != nil {
		t.Fatal(err)
	}
	r, err := s.Append(t.Context(), store.Fence{}, entry(session, app, lane.CallNotify, "more"), entry(session, app, lane.SessionCompleted, "end"))
	if err != nil || !slices.Equal(r, []lane.Result{lane.Dropped, lane.Queued}) {
		t.Errorf("results %v, %v: want the notification dropped and the end kept", r, err)
	}
}

func TestTargetName(t *testing.T) {
	name := lane.TargetName("https://user:pw@App.Example.com:8443/a?key=secret")
	ref := lane.Ref{Session: partition.NewID(1), Target: name}
	if ref.Host() != "app.example.com:8443" {
		t.Errorf("host %q of %q", ref.Host(), name)
	}
	if lane.TargetName("https://a.test/1") == lane.TargetName("https://a.test/2") {
		t.Error("two targets of one host share a lane")
	}
	for _, bad := range []string{"", "::", "http://{p9}/", "http://a~b/"} {
		if h := (lane.Ref{Target: lane.TargetName(bad)}).Host(); h == "" {
			t.Errorf("%q has no host", bad)
		}
	}
}
