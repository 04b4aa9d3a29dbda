// Package storetest says what the store of live sessions must do, on any Redis.
package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// Secret is the one for Call-IDs in tests.
var Secret = []byte("a secret of the tests alone")

const domain = "demo.callmesh.test"

// Run holds a store in rdb, which is empty, to the contract.
func Run(t *testing.T, rdb redis.UniversalClient) {
	open := func(t *testing.T) *store.Store {
		t.Helper()
		s, err := store.New(rdb, store.Options{CallSecret: Secret, KeepEnded: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, test := range map[string]func(*testing.T, *store.Store){
		"versions":                   versions,
		"many writers, one wins":     race,
		"epochs":                     epochs,
		"a stale write changes none": staleChangesNothing,
		"reassert":                   reassert,
		"live rows":                  liveRows,
		"owners":                     owners,
		"numbers":                    numbers,
		"calls":                      calls,
		"archive queue":              archiveQueue,
		"appends":                    appends,
		"notifications too long":     longBodies,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// New returns a first write of a session in a random partition.
func New() store.Write {
	return store.Write{
		ID: partition.NewID(partition.Random()), Domain: domain, Owner: "s1", Epoch: 1,
		Record: []byte("record one\x00\xff"), Row: []byte(`{"state":"new"}`),
	}
}

func must(t *testing.T, s *store.Store, w store.Write) uint64 {
	t.Helper()
	v, err := s.Save(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func load(t *testing.T, s *store.Store, id uuid.UUID) store.Stored {
	t.Helper()
	st, err := s.Load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func versions(t *testing.T, s *store.Store) {
	w := New()
	if _, err := s.Load(t.Context(), w.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a session never saved: %v", err)
	}
	later := w
	later.Version = 3
	if _, err := s.Save(t.Context(), later); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a later version of a session that is not there: %v", err)
	}
	if v := must(t, s, w); v != 1 {
		t.Fatalf("the first write made version %d", v)
	}
	if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrStaleWrite) {
		t.Errorf("a session was created twice: %v", err)
	}
	w.Version, w.Record = 1, []byte("record two")
	if v := must(t, s, w); v != 2 {
		t.Fatalf("the second write made version %d", v)
	}
	if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrStaleWrite) {
		t.Errorf("a writer that read too early: %v", err)
	}
	got := load(t, s, w.ID)
	if got.ID != w.ID || string(got.Record) != "record two" || got.Owner != "s1" || got.Epoch != 1 || got.Version != 2 || got.Domain != domain {
		t.Errorf("loaded %+v", got)
	}
	w.Version, w.Domain = 2, "other.callmesh.test"
	if _, err := s.Save(t.Context(), w); err == nil {
		t.Error("a session moved to another domain")
	}
}

func race(t *testing.T, s *store.Store) {
	w := New()
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			_, err := s.Save(t.Context(), w)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, store.ErrStaleWrite) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d writers won", won.Load())
	}
}

func epochs(t *testing.T, s *store.Store) {
	w := New()
	if _, err := s.Claim(t.Context(), w.ID, "s2", "s1", 1); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a session never saved was claimed: %v", err)
	}
	must(t, s, w)
	epoch, err := s.Claim(t.Context(), w.ID, "s2", "s1", 1)
	if err != nil || epoch != 2 {
		t.Fatalf("claimed under epoch %d, %v", epoch, err)
	}
	if _, err := s.Claim(t.Context(), w.ID, "s3", "s1", 1); !errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("two instances claimed from one: %v", err)
	}
	w.Version = 1
	if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("the former owner wrote: %v", err)
	}
	w.Reassert = true
	if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("the former owner reasserted: %v", err)
	}
	w.Reassert, w.Owner, w.Epoch = false, "s2", 2
	if v := must(t, s, w); v != 2 {
		t.Errorf("the new owner made version %d", v)
	}
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			_, err := s.Claim(t.Context(), w.ID, fmt.Sprintf("n%d", i), "s2", 2)
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, store.ErrStaleEpoch) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 16 claims won", won.Load())
	}
}

func staleChangesNothing(t *testing.T, s *store.Store) {
	w := New()
	must(t, s, w)
	if _, err := s.Claim(t.Context(), w.ID, "s2", "s1", 1); err != nil {
		t.Fatal(err)
	}
	before := load(t, s, w.ID)
	stale := w
	stale.Version, stale.Record, stale.Row, stale.Ended = 1, []byte("stale"), nil, true
	entry := Entry(w.ID, "http://app.test", "stale")
	stale.Append = []lane.Entry{entry}
	if _, err := s.Save(t.Context(), stale); !errors.Is(err, store.ErrStaleEpoch) {
		t.Fatalf("err = %v", err)
	}
	after := load(t, s, w.ID)
	if string(after.Record) != string(before.Record) || after.Version != before.Version || after.Owner != "s2" {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if rows := collectRows(t, s, domain); string(rows[w.ID]) != string(w.Row) {
		t.Errorf("the row is %q", rows[w.ID])
	}
	queue, err := s.ToArchive(t.Context(), partition.Of(w.ID), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queue {
		if q.ID == w.ID {
			t.Error("a stale write queued the session for the archive")
		}
	}
	// The entry was not appended either: its dedupe key is new still.
	results, err := s.Append(t.Context(), store.Fence{}, entry)
	if err != nil || results[0] != lane.Queued {
		t.Errorf("the stale write's entry: %v, %v", results, err)
	}
}

func reassert(t *testing.T, s *store.Store) {
	w := New()
	w.Version, w.Reassert = 7, true
	if v := must(t, s, w); v != 8 {
		t.Errorf("a lost session came back as version %d, want 8", v)
	}
	w.Record = []byte("again")
	if v := must(t, s, w); v != 8 {
		t.Errorf("the same write, made once more, is version %d, want 8", v)
	}
	if got := load(t, s, w.ID); string(got.Record) != "again" {
		t.Errorf("record %q", got.Record)
	}
	w.Version = 6
	if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrStaleWrite) {
		t.Errorf("an earlier write replaced a later one: %v", err)
	}
	w.Reassert, w.Version = false, 8
	if v := must(t, s, w); v != 9 {
		t.Errorf("the next write made version %d", v)
	}
	if owned := collectOwned(t, s, "s1"); !owned[w.ID] {
		t.Error("a session that came back is not among its owner's")
	}
}

func collectRows(t *testing.T, s *store.Store, domain string) map[uuid.UUID][]byte {
	t.Helper()
	rows := map[uuid.UUID][]byte{}
	for r, err := range s.LiveRows(t.Context(), domain) {
		if err != nil {
			t.Fatal(err)
		}
		rows[r.ID] = r.Row
	}
	return rows
}

func collectOwned(t *testing.T, s *store.Store, owner string) map[uuid.UUID]bool {
	t.Helper()
	owned := map[uuid.UUID]bool{}
	for id, err := range s.OwnedBy(t.Context(), owner) {
		if err != nil {
			t.Fatal(err)
		}
		if owned[id] {
			t.Errorf("%s was listed twice", id)
		}
		owned[id] = true
	}
	return owned
}

func liveRows(t *testing.T, s *store.Store) {
	const here, there = "rows.callmesh.test", "others.callmesh.test"
	want := map[uuid.UUID]string{}
	for p := range partition.Count {
		for i := range 2 {
			w := New()
			w.ID, w.Domain, w.Row = partition.NewID(p), here, fmt.Appendf(nil, `{"n":%d}`, i)
			must(t, s, w)
			want[w.ID] = string(w.Row)
		}
	}
	w := New()
	w.Domain = there
	must(t, s, w)
	changed, gone := uuid.Nil, uuid.Nil
	for id := range want {
		if changed == uuid.Nil {
			changed = id
		} else if gone == uuid.Nil {
			gone = id
		}
	}
	w.Domain, w.Version = here, 1
	w.ID, w.Row = changed, []byte(`{"n":9}`)
	must(t, s, w)
	want[changed] = `{"n":9}`
	w.ID, w.Row = gone, nil
	must(t, s, w)
	delete(want, gone)
	got := collectRows(t, s, here)
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	for id, row := range want {
		if string(got[id]) != row {
			t.Errorf("row of %s = %q, want %q", id, got[id], row)
		}
	}
	if got := collectRows(t, s, there); len(got) != 1 {
		t.Errorf("%d rows of the other domain, want 1", len(got))
	}
}

func owners(t *testing.T, s *store.Store) {
	// Names of which one is the beginning of the other, and more than a page in
	// one partition.
	want := map[string]map[uuid.UUID]bool{"own": {}, "own1": {}, "own-2": {}}
	for i := range 600 {
		w := New()
		w.Owner = []string{"own", "own1", "own-2"}[i%3]
		if i%2 == 0 {
			w.ID = partition.NewID(11)
			w.Owner = "own"
		}
		must(t, s, w)
		want[w.Owner][w.ID] = true
	}
	for owner, ids := range want {
		got := collectOwned(t, s, owner)
		if len(got) != len(ids) {
			t.Errorf("%s owns %d, want %d", owner, len(got), len(ids))
		}
		for id := range ids {
			if !got[id] {
				t.Errorf("%s is not among the sessions of %s", id, owner)
			}
		}
	}
	all, err := s.Owners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, o := range all {
		found[o]++
	}
	for owner := range want {
		if found[owner] != 1 {
			t.Errorf("%s is listed %d times among the owners %v", owner, found[owner], all)
		}
	}
	for id := range want["own1"] {
		if _, err := s.Claim(t.Context(), id, "heir", "own1", 1); err != nil {
			t.Fatal(err)
		}
	}
	if got := collectOwned(t, s, "own1"); len(got) != 0 {
		t.Errorf("own1 still owns %d", len(got))
	}
	if got := collectOwned(t, s, "heir"); len(got) != len(want["own1"]) {
		t.Errorf("the heir owns %d, want %d", len(got), len(want["own1"]))
	}
	w := New()
	w.Owner = "a/b"
	if _, err := s.Save(t.Context(), w); err == nil {
		t.Error("an owner's name with a slash was accepted")
	}
}

func numbers(t *testing.T, s *store.Store) {
	seen := map[int64]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			n, err := s.NextNumber(t.Context(), i%partition.Count)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[n] || n <= 0 {
				t.Errorf("number %d was given twice, or is none", n)
			}
			if int(n%partition.Count) != i%partition.Count {
				t.Errorf("number %d is not of partition %d", n, i%partition.Count)
			}
			seen[n] = true
		})
	}
	wg.Wait()
}

func calls(t *testing.T, s *store.Store) {
	const callID = "a84b4c76e66710@{p3}.example.com"
	if refs, err := s.LookupCall(t.Context(), callID); err != nil || len(refs) != 0 {
		t.Errorf("an unknown call: %v, %v", refs, err)
	}
	old, recent := partition.NewID(1), partition.NewID(2)
	for _, r := range []store.Ref{{Session: old, Leg: 1}, {Session: recent, Leg: 1}, {Session: recent, Leg: 255}, {Session: recent, Leg: 255}} {
		if err := s.IndexCall(t.Context(), callID, r.Session, r.Leg, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	refs, err := s.LookupCall(t.Context(), callID)
	if err != nil || len(refs) != 3 || refs[0].Session != recent || refs[2] != (store.Ref{Session: old, Leg: 1}) {
		t.Errorf("refs %v, %v; want the newest first", refs, err)
	}
	if err := s.ForgetCall(t.Context(), callID, old, 1); err != nil {
		t.Fatal(err)
	}
	if refs, _ := s.LookupCall(t.Context(), callID); len(refs) != 2 {
		t.Errorf("after forgetting one: %v", refs)
	}
	for i := range 100 {
		if err := s.IndexCall(t.Context(), "loop", partition.NewID(i%64), 1, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if refs, _ := s.LookupCall(t.Context(), "loop"); len(refs) != 64 {
		t.Errorf("a looping call has %d legs in the index, want the bound of 64", len(refs))
	}
	// A short ttl does not cut a longer one.
	if err := s.IndexCall(t.Context(), callID, old, 9, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := s.IndexCall(t.Context(), "brief", old, 1, 30*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	until(t, "the brief index to expire", func() bool {
		refs, err := s.LookupCall(t.Context(), "brief")
		return err == nil && len(refs) == 0
	})
	if refs, _ := s.LookupCall(t.Context(), callID); len(refs) != 3 {
		t.Errorf("an index of an hour holds %v after a second one of a millisecond", refs)
	}
}

func archiveQueue(t *testing.T, s *store.Store) {
	w := New()
	w.ID = partition.NewID(42)
	w.Domain = "archive.callmesh.test"
	must(t, s, w)
	w.Version, w.Ended, w.Record = 1, true, []byte("ended")
	must(t, s, w)
	queued := func() []store.Stored {
		q, err := s.ToArchive(t.Context(), 42, 10)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := queued()
	if len(q) != 1 || q[0].ID != w.ID || string(q[0].Record) != "ended" || q[0].Version != 2 || q[0].Domain != w.Domain {
		t.Fatalf("queue %+v", q)
	}
	w.Version, w.Record = 2, []byte("ended, and more")
	must(t, s, w)
	if ok, err := s.Archived(t.Context(), w.ID, w.Domain, 2); err != nil || ok {
		t.Errorf("a version that is no longer stored was let go: %v, %v", ok, err)
	}
	if rows := collectRows(t, s, w.Domain); len(rows) != 1 {
		t.Errorf("%d rows, want the ended session to stay listed", len(rows))
	}
	if ok, err := s.Archived(t.Context(), w.ID, w.Domain, 3); err != nil || !ok {
		t.Fatalf("Archived = %v, %v", ok, err)
	}
	if q := queued(); len(q) != 0 {
		t.Errorf("still queued: %+v", q)
	}
	if rows := collectRows(t, s, w.Domain); len(rows) != 0 {
		t.Errorf("still listed: %v", rows)
	}
	if owned := collectOwned(t, s, w.Owner); owned[w.ID] {
		t.Error("still owned")
	}
	if got := load(t, s, w.ID); string(got.Record) != "ended, and more" {
		t.Errorf("the record is gone at once: %+v", got)
	}
	// A last word after the archive: it must not expire before it is archived too.
	w.Version, w.Row, w.Record = 3, nil, []byte("a late recording")
	must(t, s, w)
	if q := queued(); len(q) != 1 || string(q[0].Record) != "a late recording" {
		t.Errorf("a late change is not queued: %+v", q)
	}
	if ok, err := s.Archived(t.Context(), w.ID, w.Domain, 4); err != nil || !ok {
		t.Fatalf("Archived = %v, %v", ok, err)
	}
	until(t, "the record to expire", func() bool {
		_, err := s.Load(t.Context(), w.ID)
		return errors.Is(err, store.ErrNotFound)
	})
	if ok, err := s.Archived(t.Context(), w.ID, w.Domain, 4); err != nil || !ok {
		t.Errorf("archiving what is gone: %v, %v", ok, err)
	}
	w.Version, w.Reassert = 4, true
	if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("an archived session rose again: %v", err)
	}
	// Late notifications are taken, and known by their dedupe keys.
	late := Entry(w.ID, "http://app.test", "recordingReady:1")
	for _, want := range []lane.Result{lane.Queued, lane.Duplicate} {
		if r, err := s.Append(t.Context(), store.Fence{}, late); err != nil || r[0] != want {
			t.Errorf("a late notification: %v, %v; want %v", r, err, want)
		}
	}
}

// Entry returns a notification with a new id.
func Entry(session uuid.UUID, target, dedupe string) lane.Entry {
	return lane.Entry{
		ID: uuid.NewString(), Session: session, Domain: domain, Target: target, URL: target + "/sessionCompleted",
		Kind: lane.SessionCompleted, DedupeKey: dedupe, Body: []byte(`{"n":12345678901234567890}`),
	}
}

// A notification that is too long loses what made it so, or gets lost itself:
// it never keeps a session from being written.
func longBodies(t *testing.T, s *store.Store) {
	w := New()
	long := strings.Repeat("x", lane.MaxBody)
	trimmed, lost, whole := Entry(w.ID, "http://app.test", "one"), Entry(w.ID, "http://app.test", "two"), Entry(w.ID, "http://app.test", "three")
	trimmed.Body = []byte(`{"sessionReferenceId":"` + long + `"}`)
	lost.Body = []byte(`{"other":"` + long + `"}`)
	w.Append = []lane.Entry{trimmed, lost, whole}
	must(t, s, w)
	want := []lane.Result{lane.Duplicate, lane.Dropped, lane.Duplicate}
	results, err := s.Append(t.Context(), store.Fence{Owner: "s1", Epoch: 1}, w.Append...)
	if err != nil || !slices.Equal(results, want) {
		t.Errorf("results %v, %v; want %v", results, err, want)
	}
	if results, err = s.Append(t.Context(), store.Fence{}, lost); err != nil || !slices.Equal(results, want[1:2]) {
		t.Errorf("results %v, %v; want %v", results, err, want[1:2])
	}
}

func appends(t *testing.T, s *store.Store) {
	w := New()
	one, two := Entry(w.ID, "http://app.test", "one"), Entry(w.ID, "http://status.test", "one")
	w.Append = []lane.Entry{one, two}
	must(t, s, w)
	same := one
	same.ID = uuid.NewString()
	results, err := s.Append(t.Context(), store.Fence{Owner: "s1", Epoch: 1}, same, Entry(w.ID, "http://app.test", "two"))
	if err != nil || results[0] != lane.Duplicate || results[1] != lane.Queued {
		t.Errorf("results %v, %v", results, err)
	}
	if _, err := s.Append(t.Context(), store.Fence{Owner: "s1", Epoch: 9}, Entry(w.ID, "http://app.test", "three")); !errors.Is(err, store.ErrStaleEpoch) {
		t.Errorf("appended under a foreign epoch: %v", err)
	}
	if _, err := s.Append(t.Context(), store.Fence{Owner: "s1", Epoch: 1}, Entry(partition.NewID(1), "http://app.test", "x")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("appended to a session that is not there: %v", err)
	}
	// Without a fence: a late recordingReady of an archived session.
	if r, err := s.Append(t.Context(), store.Fence{}, Entry(partition.NewID(1), "http://app.test", "x")); err != nil || r[0] != lane.Queued {
		t.Errorf("a late notification: %v, %v", r, err)
	}
	w.Version, w.Append = 1, []lane.Entry{Entry(partition.NewID(3), "http://app.test", "x")}
	if _, err := s.Save(t.Context(), w); err == nil {
		t.Error("a notification of another session was appended")
	}
}

// until polls, as Redis tells nobody when a key expires.
func until(t *testing.T, what string, good func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for !good() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 15 s for %s", what)
		}
	}
}
