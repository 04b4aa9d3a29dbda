package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/principal"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type directory struct {
	asked atomic.Int32
	// answer returns what VerifyKey does.
	answer func(sum []byte) error
	wait   chan struct{}
}

func (d *directory) VerifyKey(ctx context.Context, req *directorypb.VerifyKeyRequest, _ ...grpc.CallOption) (*directorypb.VerifyKeyResponse, error) {
	d.asked.Add(1)
	if d.wait != nil {
		select {
		case <-d.wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := d.answer(req.GetKeySha256()); err != nil {
		return nil, err
	}
	return &directorypb.VerifyKeyResponse{Subject: "demo", Domains: []string{"a.test"}, Roles: []string{"domain"}}, nil
}

func only(key string) func([]byte) error {
	want := sha256.Sum256([]byte(key))
	return func(sum []byte) error {
		if string(sum) != string(want[:]) {
			return fault.New(fault.Unauthenticated, "no such key")
		}
		return nil
	}
}

func header(values ...string) http.Header { return http.Header{"Authorization": values} }

func TestSchemes(t *testing.T) {
	k := New(&directory{answer: only("k")}, time.Now)
	for value, good := range map[string]bool{
		"Bearer k": true, "bearer k": true, "BEARER   k  ": true,
		"Bearer": false, "Bearer ": false, "Basic k": false, "k": false, "Bearerk": false, "Bearer k k": false, "Bearer K": false, "": false,
	} {
		p, err := k.Principal(t.Context(), header(value))
		if good != (err == nil) || good != (p.Subject == "demo") {
			t.Errorf("%q: %v, %v", value, p, err)
		}
		if err != nil && fault.ReasonOf(err) != fault.Unauthenticated {
			t.Errorf("%q: %v", value, err)
		}
	}
	if _, err := k.Principal(t.Context(), header("Bearer k", "Bearer k")); err == nil {
		t.Error("two headers were taken")
	}
	if _, err := k.Principal(t.Context(), http.Header{}); err == nil {
		t.Error("no header was taken")
	}
}

func TestAnswersAreKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{answer: only("k")}
		k := New(d, time.Now)
		ask := func(key string, want int32) {
			t.Helper()
			_, _ = k.Principal(t.Context(), header("Bearer "+key))
			if got := d.asked.Load(); got != want {
				t.Errorf("asked %d times, want %d", got, want)
			}
		}
		ask("k", 1)
		ask("k", 1)
		ask("bad", 2)
		ask("bad", 2)
		time.Sleep(badFor)
		ask("bad", 3)
		ask("k", 3)
		time.Sleep(goodFor - badFor)
		ask("k", 4)
		// Withdrawn meanwhile.
		d.answer = only("other")
		time.Sleep(goodFor)
		if _, err := k.Principal(t.Context(), header("Bearer k")); fault.ReasonOf(err) != fault.Unauthenticated {
			t.Errorf("a withdrawn key: %v", err)
		}
	})
}

func TestManyRequestsMakeOneLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{answer: only("k"), wait: make(chan struct{})}
		k := New(d, time.Now)
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var good atomic.Int32
		for i := range 20 {
			ctx := t.Context()
			if i == 0 {
				ctx = first
			}
			wg.Go(func() {
				if _, err := k.Principal(ctx, header("Bearer k")); err == nil {
					good.Add(1)
				}
			})
			synctest.Wait()
		}
		cancel() // the one that asks goes away: the others still get their answer
		close(d.wait)
		wg.Wait()
		if good.Load() != 20 || d.asked.Load() != 1 {
			t.Errorf("%d answers, %d look-ups", good.Load(), d.asked.Load())
		}
	})
}

func TestOneWhoWaitsMayLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{answer: only("k"), wait: make(chan struct{})}
		k := New(d, time.Now)
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = k.Principal(t.Context(), header("Bearer k")) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.Principal(ctx, header("Bearer k")); fault.ReasonOf(err) != fault.Timeout {
			t.Errorf("%v, want TIMEOUT", err)
		}
		wg.Wait() // by patience: the directory never answers
	})
}

func TestAnUnreachableDirectoryIsNoRefusal(t *testing.T) {
	d := &directory{answer: func([]byte) error { return errors.New("connection refused at 10.0.0.7") }}
	k := New(d, time.Now)
	for range 2 {
		_, err := k.Principal(t.Context(), header("Bearer k"))
		if f := fault.From(err); f.Reason != fault.Unavailable || f.Message != "credentials cannot be checked at the moment" {
			t.Errorf("%v", err)
		}
	}
	d.answer = only("k")
	if _, err := k.Principal(t.Context(), header("Bearer k")); err != nil {
		t.Errorf("a failure was remembered: %v", err)
	}
}

func TestCachesAreBounded(t *testing.T) {
	k := New(&directory{answer: only("k")}, time.Now)
	k.bad = newRecent[struct{}](10, time.Hour)
	k.good = newRecent[principal.Principal](2, time.Hour)
	if _, err := k.Principal(t.Context(), header("Bearer k")); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		_, _ = k.Principal(t.Context(), header("Bearer guess"+strconv.Itoa(i)))
	}
	if n := len(k.bad.entries); n != 10 {
		t.Errorf("%d bad keys are kept, want 10", n)
	}
	if len(k.good.entries) != 1 || len(k.flights) != 0 {
		t.Errorf("%d good keys, %d look-ups", len(k.good.entries), len(k.flights))
	}
}

func TestRecentKeepsTheNewest(t *testing.T) {
	r := newRecent[int](2, time.Minute)
	now := time.Unix(0, 0)
	a, b, c := digest{1}, digest{2}, digest{3}
	r.put(a, 1, now)
	r.put(a, 2, now) // again: its first place in the ring no longer counts
	r.put(b, 3, now)
	if v, ok := r.get(a, now); !ok || v != 2 {
		t.Errorf("a: %d, %v", v, ok)
	}
	r.put(c, 4, now)
	if _, ok := r.get(a, now); ok {
		t.Error("the oldest is still there")
	}
	if v, ok := r.get(b, now); !ok || v != 3 {
		t.Errorf("b: %d, %v", v, ok)
	}
	if _, ok := r.get(b, now.Add(time.Minute)); ok {
		t.Error("an expired value was given")
	}
}
