package redistest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEachGivesAnEmptyStoreThatRunsScripts(t *testing.T) {
	script := redis.NewScript(`return redis.call('INCR', KEYS[1])`)
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for p := range partition.Count {
			n, err := script.Run(t.Context(), rdb, []string{"k" + partition.Slot(p)}).Int()
			if err != nil || n != 1 {
				t.Fatalf("partition %d: %d, %v", p, n, err)
			}
		}
	})
}

func TestPartitionsSpreadOverTheMasters(t *testing.T) {
	rdb := redistest.StartCluster(t).Client()
	perMaster := map[string]int{}
	for p := range partition.Count {
		m, err := rdb.MasterForKey(t.Context(), partition.Slot(p))
		if err != nil {
			t.Fatal(err)
		}
		perMaster[m.Options().Addr]++
	}
	for addr, n := range perMaster {
		if n < partition.Count/masters/2 {
			t.Errorf("%s serves %d of %d partitions", addr, n, partition.Count)
		}
	}
	if len(perMaster) != masters {
		t.Errorf("%d masters serve partitions, want %d", len(perMaster), masters)
	}
}

const masters = 3

func TestAClusterRefusesAScriptOverTwoSlots(t *testing.T) {
	rdb := redistest.StartCluster(t).Client()
	script := redis.NewScript(`redis.call('SET', KEYS[1], 'v') return redis.call('SET', KEYS[2], 'v')`)
	if err := script.Run(t.Context(), rdb, []string{"{p1}a", "{p2}a"}).Err(); err == nil {
		t.Error("a script wrote to two slots")
	}
}

func TestServerKillRestartPause(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb := s.Client()
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Restart()
	if v := rdb.Get(t.Context(), "k").Val(); v != "v" {
		t.Errorf("after the restart k = %q", v)
	}
	s.Pause()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Fatal("a paused server answers")
	}
	s.Resume()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestMiniFollowsABubblesClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redistest.Mini(t)
		if err := rdb.Set(t.Context(), "k", "v", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Minute) // the bubble's clock, not the machine's
		if rdb.Exists(t.Context(), "k").Val() != 1 {
			t.Error("expired early")
		}
		time.Sleep(2 * time.Minute)
		if rdb.Exists(t.Context(), "k").Val() != 0 {
			t.Error("did not expire")
		}
	})
}
