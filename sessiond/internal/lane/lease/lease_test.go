package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// holder is an instance with leases.
type holder struct {
	*lease.Leases
	stop func()
}

func start(t *testing.T, rdb redis.UniversalClient, name string, ttl time.Duration, peers *atomic.Int32) *holder {
	t.Helper()
	l := lease.New(rdb, name, quiet, lease.Options{TTL: ttl, Peers: func(context.Context) (int, error) { return int(peers.Load()), nil }})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = l.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return &holder{Leases: l, stop: stop}
}

func TestLeasesAreSharedOutAndInherited(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		var peers atomic.Int32
		peers.Store(1)
		one := start(t, rdb, "one", 400*time.Millisecond, &peers)
		until(t, "one to hold all", func() bool { return len(one.Held()) == partition.Count })
		peers.Store(2)
		two := start(t, rdb, "two", 400*time.Millisecond, &peers)
		until(t, "two to get its share", func() bool { return len(two.Held()) == partition.Count/2 && len(one.Held()) == partition.Count/2 })
		fences := map[int]int64{}
		for _, h := range one.Held() {
			fences[h.Partition] = h.Fence
			if v := rdb.Get(t.Context(), lease.Key(h.Partition)).Val(); v != h.Token {
				t.Errorf("partition %d: the lease is %q, ours %q", h.Partition, v, h.Token)
			}
		}
		for _, h := range two.Held() {
			if fences[h.Partition] != 0 {
				t.Errorf("partition %d is held by both", h.Partition)
			}
		}
		one.stop()
		if n := len(one.Held()); n != 0 {
			t.Errorf("one holds %d after its end", n)
		}
		peers.Store(1)
		until(t, "two to hold all", func() bool { return len(two.Held()) == partition.Count })
		for _, h := range two.Held() {
			if h.Fence <= fences[h.Partition] {
				t.Errorf("partition %d: fence %d follows %d", h.Partition, h.Fence, fences[h.Partition])
			}
		}
	})
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

// An instance that loses Redis lets go before anybody else can hold.
func TestNoPartitionIsHeldTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		var peers atomic.Int32
		peers.Store(1)
		cut := &cuttable{UniversalClient: rdb}
		one := start(t, cut, "one", 9*time.Second, &peers)
		time.Sleep(time.Second)
		two := start(t, rdb, "two", 9*time.Second, &peers)
		time.Sleep(20 * time.Second)
		if n := len(one.Held()); n != partition.Count {
			t.Fatalf("one holds %d", n)
		}
		cut.cut.Store(true)
		inherited := time.Duration(0)
		for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(100 * time.Millisecond) {
			a, b := len(one.Held()), len(two.Held())
			if a+b > partition.Count {
				t.Fatalf("after %s one holds %d and two %d", time.Since(began), a, b)
			}
			if b == partition.Count && inherited == 0 {
				inherited = time.Since(began)
			}
		}
		if inherited == 0 || inherited > 12*time.Second {
			t.Errorf("two held all after %s", inherited)
		}
		cut.cut.Store(false)
		time.Sleep(10 * time.Second)
		if n := len(one.Held()); n != 0 {
			t.Errorf("one holds %d again, though two holds all", n)
		}
		one.stop()
		two.stop()
	})
}

type cuttable struct {
	redis.UniversalClient
	cut atomic.Bool
}

func (c *cuttable) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if c.cut.Load() {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(errors.New("connection refused"))
		return cmd
	}
	return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
}
