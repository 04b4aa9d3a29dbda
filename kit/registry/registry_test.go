package registry_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/kit/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestAnnounceListWithdraw(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := registry.New(rdb, quiet, registry.Options{Every: 20 * time.Millisecond, TTL: 2 * time.Second})
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var busy atomic.Int64
		busy.Store(3)
		wg.Go(func() {
			err := r.Announce(ctx, "mediad", "m1", "10.0.0.1:9000", func() registry.Load {
				return registry.Load{Active: int(busy.Load()), Capacity: 100}
			})
			if err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			_ = r.Announce(ctx, "ivrd", "m1", "10.0.0.2:9000", func() registry.Load { return registry.Load{} })
		})
		live := await(t, r, "mediad", func(l []registry.Instance) bool { return len(l) == 1 })
		if i := live[0]; i.Name != "m1" || i.Address != "10.0.0.1:9000" || i.Load.Capacity != 100 || i.Started.IsZero() {
			t.Errorf("listed %+v", i)
		}
		busy.Store(50)
		await(t, r, "mediad", func(l []registry.Instance) bool { return len(l) == 1 && l[0].Load.Usage() == 0.5 })
		if ok, err := r.Alive(t.Context(), "mediad", "m1"); err != nil || !ok {
			t.Errorf("Alive = %v, %v", ok, err)
		}
		if ok, err := r.Alive(t.Context(), "mediad", "m2"); err != nil || ok {
			t.Errorf("Alive of an unknown one = %v, %v", ok, err)
		}
		stop()
		wg.Wait()
		if l, err := r.List(t.Context(), "mediad"); err != nil || len(l) != 0 {
			t.Errorf("after the withdrawal: %v, %v", l, err)
		}
	})
}

func await(t *testing.T, r *registry.Registry, service string, good func([]registry.Instance) bool) []registry.Instance {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		live, err := r.List(t.Context(), service)
		if err != nil {
			t.Fatal(err)
		}
		if good(live) {
			return live
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still %+v after 10 s", live)
		}
	}
}

// A process that dies withdraws nothing: its heartbeat has to run out.
func TestASilentInstanceDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		r := registry.New(rdb, quiet, registry.Options{})
		gone := &gate{UniversalClient: rdb}
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = registry.New(gone, quiet, registry.Options{}).Announce(ctx, "sessiond", "s1", "a:1", func() registry.Load { return registry.Load{} })
		})
		time.Sleep(time.Minute)
		if ok, err := r.Alive(t.Context(), "sessiond", "s1"); err != nil || !ok {
			t.Fatalf("Alive = %v, %v", ok, err)
		}
		gone.shut.Store(true)
		time.Sleep(registry.DefaultTTL - registry.DefaultEvery - time.Millisecond)
		if ok, _ := r.Alive(t.Context(), "sessiond", "s1"); !ok {
			t.Error("dead before its time")
		}
		time.Sleep(registry.DefaultEvery + 2*time.Millisecond)
		if ok, _ := r.Alive(t.Context(), "sessiond", "s1"); ok {
			t.Error("alive after its TTL")
		}
		if l, _ := r.List(t.Context(), "sessiond"); len(l) != 0 {
			t.Errorf("listed after its death: %+v", l)
		}
		gone.shut.Store(false)
		time.Sleep(registry.DefaultEvery)
		synctest.Wait()
		if ok, _ := r.Alive(t.Context(), "sessiond", "s1"); !ok {
			t.Error("not alive again once Redis was back")
		}
		stop()
		wg.Wait()
	})
}

// gate is a Redis that can be cut off.
type gate struct {
	redis.UniversalClient
	shut atomic.Bool
}

func (g *gate) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if g.shut.Load() {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(context.DeadlineExceeded)
		return cmd
	}
	return g.UniversalClient.EvalSha(ctx, sha, keys, args...)
}
