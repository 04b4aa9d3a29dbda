package journal_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/store/journal"
	"github.com/callmesh/callmesh/sessiond/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start opens a journaled store and runs it until the test ends or stop is called.
func start(t *testing.T, rdb redis.UniversalClient, o journal.Options) (*journal.Store, func()) {
	t.Helper()
	s, err := store.New(rdb, store.Options{CallSecret: storetest.Secret})
	if err != nil {
		t.Fatal(err)
	}
	if o.Instance == "" {
		o.Instance = "s1"
	}
	o.Retry = 10 * time.Millisecond
	j, err := journal.Open(s, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = j.Run(ctx) })
	stop := sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return j, stop
}

func save(t *testing.T, j *journal.Store, w *store.Write) {
	t.Helper()
	v, err := j.Save(t.Context(), *w)
	if err != nil {
		t.Fatal(err)
	}
	if v != w.Version+1 {
		t.Errorf("version %d follows %d", v, w.Version)
	}
	w.Version = v
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

// laneOf returns the dedupe keys that wait in a lane, in order.
func laneOf(t *testing.T, rdb redis.UniversalClient, e lane.Entry) int64 {
	t.Helper()
	values, err := rdb.HMGet(t.Context(), e.Ref().Key(), "head", "tail").Result()
	if err != nil {
		t.Fatal(err)
	}
	var at [2]int64
	for i, v := range values {
		if text, ok := v.(string); ok {
			if _, err := fmt.Sscan(text, &at[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return at[1] - at[0]
}

func TestLiveCallsOutlastAnOutage(t *testing.T) {
	durable := []string{"--appendonly", "yes", "--appendfsync", "always"}
	outages := []struct {
		name      string
		args      []string
		away, ret func(*redistest.Server)
	}{
		{"paused", nil, (*redistest.Server).Pause, (*redistest.Server).Resume},
		{"killed, and all kept", durable, (*redistest.Server).Kill, (*redistest.Server).Restart},
		{"killed, and all lost", nil, (*redistest.Server).Kill, (*redistest.Server).Restart},
	}
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			server := redistest.Start(t, o.args...)
			j, _ := start(t, server.Client(), journal.Options{Dir: t.TempDir()})
			w, quiet := storetest.New(), storetest.New()
			save(t, j, &w)
			save(t, j, &quiet)
			o.away(server)

			end := storetest.Entry(w.ID, "http://app.test", "sessionCompleted")
			for n := range 5 {
				w.Record = fmt.Appendf(nil, "state %d", n)
				if w.Append = nil; n == 4 {
					w.Append, w.Ended = []lane.Entry{end}, true
				}
				save(t, j, &w)
			}
			alarm := storetest.Entry(w.ID, "http://app.test", "alarm")
			if r, err := j.Append(t.Context(), store.Fence{Owner: w.Owner, Epoch: w.Epoch}, alarm); err != nil || r[0] != lane.Queued {
				t.Fatalf("append: %v, %v", r, err)
			}
			began := time.Now()
			if _, err := j.Save(t.Context(), storetest.New()); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("a new session while Redis is away: %v", err)
			}
			if took := time.Since(began); took > 500*time.Millisecond {
				t.Errorf("a new session was refused after %s", took)
			}
			if j.Pending() != 1 {
				t.Errorf("%d sessions are journaled", j.Pending())
			}
			o.ret(server)
			until(t, "the journal to be written back", func() bool { return j.Pending() == 0 })

			got, err := j.Load(t.Context(), w.ID)
			if err != nil || string(got.Record) != "state 4" || got.Version != w.Version {
				t.Errorf("stored %+v, %v; want version %d", got, err, w.Version)
			}
			if n := laneOf(t, server.Client(), end); n != 2 {
				t.Errorf("%d notifications wait, want 2", n)
			}
			w.Record, w.Append, w.Ended = []byte("after"), []lane.Entry{end}, false
			save(t, j, &w) // a repeated sessionCompleted among it
			if got, _ := j.Load(t.Context(), w.ID); string(got.Record) != "after" {
				t.Errorf("record %q", got.Record)
			}
			if n := laneOf(t, server.Client(), end); n != 2 {
				t.Errorf("%d notifications wait after a repetition, want 2", n)
			}
			until(t, "new sessions to be taken", func() bool {
				_, err := j.Save(t.Context(), storetest.New())
				return err == nil
			})
		})
	}
}

func TestAClaimedSessionIsNotWrittenBack(t *testing.T) {
	server := redistest.Start(t)
	j, _ := start(t, server.Client(), journal.Options{Dir: t.TempDir()})
	mine, claimed := storetest.New(), storetest.New()
	save(t, j, &mine)
	save(t, j, &claimed)
	cut := &cuttable{UniversalClient: server.Client()}
	cut.set(true)
	k, _ := start(t, cut, journal.Options{Dir: t.TempDir()})
	mine.Record, claimed.Record = []byte("journaled"), []byte("journaled")
	claimed.Append = []lane.Entry{storetest.Entry(claimed.ID, "http://app.test", "stale")}
	save(t, k, &claimed)
	save(t, k, &mine)
	if _, err := j.Claim(t.Context(), claimed.ID, "s2", "s1", 1); err != nil {
		t.Fatal(err)
	}
	cut.set(false)
	until(t, "the journal to be worked off", func() bool { return k.Pending() == 0 })
	if got, _ := j.Load(t.Context(), claimed.ID); string(got.Record) == "journaled" || got.Owner != "s2" {
		t.Errorf("a claimed session was overwritten: %+v", got)
	}
	if n := laneOf(t, server.Client(), claimed.Append[0]); n != 0 {
		t.Error("a stale write's notification was queued")
	}
	if got, _ := j.Load(t.Context(), mine.ID); string(got.Record) != "journaled" {
		t.Errorf("the write behind it was not made: %+v", got)
	}
}

// cuttable is a Redis whose scripts can be made to fail as if it were away.
type cuttable struct {
	redis.UniversalClient
	mu  sync.Mutex
	cut bool
}

func (c *cuttable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

func (c *cuttable) away() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (c *cuttable) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if c.away() {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(errors.New("connection refused"))
		return cmd
	}
	return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
}

func (c *cuttable) HMGet(ctx context.Context, key string, fields ...string) *redis.SliceCmd {
	if c.away() {
		cmd := redis.NewSliceCmd(ctx)
		cmd.SetErr(errors.New("connection refused"))
		return cmd
	}
	return c.UniversalClient.HMGet(ctx, key, fields...)
}

func TestTheNextInstanceWritesBackWhatWasLeft(t *testing.T) {
	server := redistest.Start(t)
	dir := t.TempDir()
	cut := &cuttable{UniversalClient: server.Client()}
	first, stop := start(t, cut, journal.Options{Dir: dir, Instance: "first"})
	w := storetest.New()
	save(t, first, &w)
	cut.set(true)
	w.Record = []byte("left behind")
	save(t, first, &w)
	// While it runs its file is its own.
	if _, err := journal.Open(first.Store, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), journal.Options{Dir: dir, Instance: "first"}); err == nil {
		t.Error("two instances share a file")
	}
	beside, stopBeside := start(t, server.Client(), journal.Options{Dir: dir, Instance: "beside"})
	if n := beside.Pending(); n != 0 {
		t.Errorf("an instance took %d sessions from one that runs", n)
	}
	stopBeside()
	stop()
	// A crash tore the last record.
	path := filepath.Join(dir, "first.journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := append(whole, whole[:len(whole)/2]...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	next, _ := start(t, server.Client(), journal.Options{Dir: dir, Instance: "next"})
	until(t, "what was left", func() bool { return next.Pending() == 0 })
	if got, err := next.Load(t.Context(), w.ID); err != nil || string(got.Record) != "left behind" {
		t.Errorf("stored %+v, %v", got, err)
	}
	until(t, "the file to be removed", func() bool {
		_, err := os.Stat(path)
		return os.IsNotExist(err)
	})
}

func TestAFullJournalRefuses(t *testing.T) {
	server := redistest.Start(t)
	j, _ := start(t, server.Client(), journal.Options{Dir: t.TempDir(), MaxBytes: 4000})
	w := storetest.New()
	w.Record = make([]byte, 1000)
	save(t, j, &w)
	server.Kill()
	save(t, j, &w)
	save(t, j, &w)
	if _, err := j.Save(t.Context(), w); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a full journal: %v", err)
	}
}

func TestManySessionsKeepTheirOrder(t *testing.T) {
	server := redistest.Start(t)
	cut := &cuttable{UniversalClient: server.Client()}
	j, _ := start(t, cut, journal.Options{Dir: t.TempDir()})
	var wg sync.WaitGroup
	writes := make([]store.Write, 20)
	for i := range writes {
		writes[i] = storetest.New()
		save(t, j, &writes[i])
	}
	done := make(chan struct{})
	wg.Go(func() {
		tick := time.NewTicker(15 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
				cut.set(n%2 == 0)
			case <-done:
				cut.set(false)
				return
			}
		}
	})
	var writers sync.WaitGroup
	for i := range writes {
		writers.Go(func() {
			for n := range 40 {
				writes[i].Record = fmt.Appendf(nil, "%d", n)
				writes[i].Append = []lane.Entry{storetest.Entry(writes[i].ID, "http://app.test", fmt.Sprint(n))}
				v, err := j.Save(t.Context(), writes[i])
				if err != nil || v != writes[i].Version+1 {
					t.Errorf("write %d: version %d, %v", n, v, err)
					return
				}
				writes[i].Version = v
			}
		})
	}
	writers.Wait()
	close(done)
	wg.Wait()
	until(t, "the journal to be written back", func() bool { return j.Pending() == 0 })
	for _, w := range writes {
		got, err := j.Load(t.Context(), w.ID)
		if err != nil || string(got.Record) != "39" || got.Version != w.Version {
			t.Errorf("stored %q at version %d, %v; want the last write, version %d", got.Record, got.Version, err, w.Version)
		}
		if n := laneOf(t, server.Client(), w.Append[0]); n != 40 {
			t.Errorf("%d notifications wait, want 40", n)
		}
	}
}

func TestOpenRefusesBadNames(t *testing.T) {
	s, err := store.New(redistest.Mini(t), store.Options{CallSecret: storetest.Secret})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a/b", `a\b`} {
		if _, err := journal.Open(s, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), journal.Options{Dir: t.TempDir(), Instance: name}); err == nil {
			t.Errorf("instance %q was accepted", name)
		}
	}
}

// A session that somebody else has ended and archived while we were cut off must
// not come back to life when our journal is written back.
func TestAnArchivedSessionStaysOver(t *testing.T) {
	server := redistest.Start(t)
	dir := t.TempDir()
	cut := &cuttable{UniversalClient: server.Client()}
	j, stop := start(t, cut, journal.Options{Dir: dir})
	w := storetest.New()
	save(t, j, &w)
	cut.set(true)
	w.Record = []byte("from before")
	save(t, j, &w)
	stop()
	if err := server.Client().FlushAll(t.Context()).Err(); err != nil { // long forgotten
		t.Fatal(err)
	}
	age(t, filepath.Join(dir, "s1.journal"))
	for _, archived := range []bool{true, false} {
		text, err := os.ReadFile(filepath.Join(dir, "s1.journal"))
		if err != nil {
			t.Fatal(err)
		}
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, "s1.journal"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		k, _ := start(t, server.Client(), journal.Options{Dir: other, Instance: "s2", Archived: func(_ context.Context, domain string, id uuid.UUID) (bool, error) {
			if domain != w.Domain || id != w.ID {
				t.Errorf("asked for %s of %s", id, domain)
			}
			return archived, nil
		}})
		until(t, "the journal to be worked off", func() bool { return k.Pending() == 0 })
		_, err = k.Load(t.Context(), w.ID)
		if archived != errors.Is(err, store.ErrNotFound) {
			t.Errorf("archived %t: %v", archived, err)
		}
	}
}

// age rewrites a journal of one record as if it were two days old.
func age(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b[8:], &fields); err != nil {
		t.Fatal(err)
	}
	if fields["At"], err = json.Marshal(time.Now().Add(-48 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	b = binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
	if err := os.WriteFile(path, append(b, text...), 0o600); err != nil {
		t.Fatal(err)
	}
}
