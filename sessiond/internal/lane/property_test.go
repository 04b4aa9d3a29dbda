package lane_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// plan is what befalls some lanes: how often each entry fails and how long its
// attempts take, and after how many scripts each instance but the last dies.
type plan struct {
	entries []planned
	deaths  []int
}

type planned struct {
	lane     int
	failures int
	takes    time.Duration
	pause    time.Duration // before the next one is appended
}

func drawPlan(t *rapid.T) plan {
	return plan{
		entries: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) planned {
			return planned{
				lane:     rapid.IntRange(0, 3).Draw(t, "lane"),
				failures: rapid.IntRange(0, 4).Draw(t, "failures"),
				takes:    time.Duration(rapid.IntRange(0, 9000).Draw(t, "takes")) * time.Millisecond,
				pause:    time.Duration(rapid.IntRange(0, 3000).Draw(t, "pause")) * time.Millisecond,
			}
		}), 1, 15).Draw(t, "entries"),
		deaths: rapid.SliceOfN(rapid.IntRange(1, 30), 0, 3).Draw(t, "deaths"),
	}
}

// Whatever fails and whoever dies, every entry arrives, those of a lane in their
// order, and each under one id.
func TestEveryEntryArrivesInOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var err error
		synctest.Test(t, func(t *testing.T) { err = carryOut(t, p) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// arrivals is the customers' side.
type arrivals struct {
	mu       sync.Mutex
	left     map[string]int // failures to come, by id
	order    map[int][]string
	arrived  map[string]bool
	under    map[lane.Ref]int
	together bool
}

func (a *arrivals) send(p plan) func(context.Context, lane.Delivery) error {
	return func(_ context.Context, d lane.Delivery) error {
		var number int
		if _, err := fmt.Sscan(d.DedupeKey, &number); err != nil {
			return err
		}
		what := p.entries[number]
		a.mu.Lock()
		a.under[d.Ref()]++
		a.together = a.together || a.under[d.Ref()] > 1
		a.mu.Unlock()
		time.Sleep(what.takes)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.under[d.Ref()]--
		if a.left[d.DedupeKey] > 0 {
			a.left[d.DedupeKey]--
			return errors.New("not now")
		}
		if !a.arrived[d.ID] {
			a.arrived[d.ID] = true
			a.order[what.lane] = append(a.order[what.lane], d.DedupeKey)
		}
		return nil
	}
}

func carryOut(t *testing.T, p plan) error {
	rdb := redistest.Mini(t)
	sessions := []uuid.UUID{partition.NewID(1), partition.NewID(2)}
	held := append(holding(t, rdb, 1), holding(t, rdb, 2)...)
	a := &arrivals{
		left: map[string]int{}, order: map[int][]string{}, arrived: map[string]bool{}, under: map[lane.Ref]int{},
	}
	for n, e := range p.entries {
		a.left[fmt.Sprint(n)] = e.failures
	}
	run := func(c redis.UniversalClient) *instance {
		return start(t, c, a.send(p), func(o *lane.Options) { o.Leases, o.Scan = held, 10*time.Second })
	}
	var instances []*instance
	for _, after := range p.deaths {
		instances = append(instances, run(&mortal{UniversalClient: rdb, left: after}))
	}
	instances = append(instances, run(rdb))
	appender := instances[0].deliverer
	s, err := store.New(rdb, store.Options{CallSecret: make([]byte, 16), Lanes: appender})
	if err != nil {
		return err
	}
	want := map[int][]string{}
	for n, e := range p.entries {
		key := fmt.Sprint(n)
		target := []string{app, status}[e.lane%2]
		if _, err := s.Append(t.Context(), store.Fence{}, entry(sessions[e.lane/2], target, lane.CDR, key)); err != nil {
			return err
		}
		want[e.lane] = append(want[e.lane], key)
		time.Sleep(e.pause)
	}
	// Fifteen entries in one lane, each tried five times for nine seconds with half a
	// minute of backoff, and three deaths in between, are done in half an hour.
	for range 60 {
		time.Sleep(time.Minute)
		a.mu.Lock()
		done := len(a.arrived) == len(p.entries)
		a.mu.Unlock()
		if done {
			break
		}
	}
	for _, i := range instances {
		i.stop()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.arrived) != len(p.entries) {
		return fmt.Errorf("%d of %d entries arrived, under %d ids", len(a.arrived), len(p.entries), len(a.arrived))
	}
	for l := range want {
		if !slices.Equal(a.order[l], want[l]) {
			return fmt.Errorf("lane %d: arrived %v, appended %v", l, a.order[l], want[l])
		}
	}
	if a.together {
		return errors.New("two attempts at one lane were under way together")
	}
	return nil
}

// mortal is a Redis that an instance no longer reaches after some scripts.
type mortal struct {
	redis.UniversalClient
	mu   sync.Mutex
	left int
}

func (m *mortal) dead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left--
	return m.left < 0
}

func (m *mortal) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if m.dead() {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(errors.New("dead"))
		return cmd
	}
	return m.UniversalClient.EvalSha(ctx, sha, keys, args...)
}

func (m *mortal) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	m.mu.Lock()
	dead := m.left < 0
	m.mu.Unlock()
	if dead {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		ctx = canceled
	}
	return m.UniversalClient.Pipelined(ctx, fn)
}
