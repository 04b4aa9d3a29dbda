// Package archivetest says what an archive of ended sessions must do, on any
// database, and starts a PostgreSQL for tests.
package archivetest

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/sessiond/internal/archive"
)

// Run holds the archive at url to the contract.
func Run(t *testing.T, url string) {
	a := open(t, url)
	for name, test := range map[string]func(*testing.T, *archive.Archive){
		"what is put is got":            putGet,
		"one row a session":             oneRow,
		"a domain sees its own":         domains,
		"all or none":                   allOrNone,
		"text that SQL does not take":   wildText,
		"text that no index takes":      longText,
		"many writers at the same time": writers,
	} {
		t.Run(name, func(t *testing.T) { test(t, a) })
	}
	t.Run("opened twice, by many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				b, err := archive.Open(t.Context(), url)
				if err != nil {
					t.Error(err)
					return
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func open(t *testing.T, url string) *archive.Archive {
	t.Helper()
	a, err := archive.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// New returns an ended session with all its fields set.
func New(domain string) archive.Session {
	at := time.Date(2026, 11, 21, 10, 0, 0, 123_000_000, time.UTC)
	return archive.Session{
		ID: partition.NewID(partition.Random()), Number: 1<<53 - 1, Domain: domain, Direction: "incoming", Outcome: "answer",
		SIPCode: 486, EndedBy: "caller", Caller: "+46850510", Callee: "1000", CallID: "a@b", TraceID: "0af7651916cd43dd8448eb211c80319c",
		Created: at, Started: at.Add(time.Second), Answered: at.Add(2 * time.Second), Ended: at.Add(time.Minute),
		Version: 7, Record: []byte("\x00\x01record\xff"),
	}
}

func put(t *testing.T, a *archive.Archive, s ...archive.Session) {
	t.Helper()
	if err := a.Put(t.Context(), s...); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, a *archive.Archive, domain string, id uuid.UUID) archive.Session {
	t.Helper()
	s, err := a.Get(t.Context(), domain, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func count(t *testing.T, a *archive.Archive, domain string) int64 {
	t.Helper()
	n, err := a.Count(t.Context(), domain)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func putGet(t *testing.T, a *archive.Archive) {
	full := New("put.test")
	bare := archive.Session{ID: partition.NewID(0), Domain: "put.test", Version: 1}
	put(t, a, full, bare)
	if got := get(t, a, "put.test", full.ID); !reflect.DeepEqual(got, full) {
		t.Errorf("got  %+v\nwant %+v", got, full)
	}
	if got := get(t, a, "put.test", bare.ID); !got.Created.IsZero() || !got.Answered.IsZero() || len(got.Record) != 0 || got.Outcome != "" {
		t.Errorf("got %+v", got)
	}
	if err := a.Put(t.Context()); err != nil {
		t.Errorf("putting nothing: %v", err)
	}
	if err := a.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func oneRow(t *testing.T, a *archive.Archive) {
	const domain = "one.test"
	s := New(domain)
	put(t, a, s)
	put(t, a, s)
	later, older := s, s
	later.Version, later.Record = 8, []byte("later")
	older.Version, older.Record = 2, []byte("older")
	put(t, a, later)
	put(t, a, older)
	if got := get(t, a, domain, s.ID); string(got.Record) != "later" || got.Version != 8 {
		t.Errorf("the row holds version %d, %q", got.Version, got.Record)
	}
	last := s
	last.Version, last.Record = 9, []byte("last")
	put(t, a, later, last, older) // the same session three times in one batch
	if got := get(t, a, domain, s.ID); string(got.Record) != "last" {
		t.Errorf("the row holds version %d, %q", got.Version, got.Record)
	}
	if n := count(t, a, domain); n != 1 {
		t.Errorf("%d rows of one session", n)
	}
}

func domains(t *testing.T, a *archive.Archive) {
	s := New("mine.test")
	put(t, a, s)
	for _, domain := range []string{"yours.test", "", "MINE.TEST", "mine.test' OR '1'='1"} {
		if _, err := a.Get(t.Context(), domain, s.ID); !errors.Is(err, archive.ErrNotFound) {
			t.Errorf("domain %q: %v", domain, err)
		}
	}
	if _, err := a.Get(t.Context(), "mine.test", uuid.New()); !errors.Is(err, archive.ErrNotFound) {
		t.Errorf("a session that is not there: %v", err)
	}
}

func allOrNone(t *testing.T, a *archive.Archive) {
	const domain = "atomic.test"
	var batch []archive.Session
	for range 500 {
		batch = append(batch, New(domain))
	}
	put(t, a, batch...)
	if n := count(t, a, domain); n != 500 {
		t.Errorf("%d rows, want 500", n)
	}
	if err := a.Put(t.Context(), append(batch, New(domain))...); err == nil {
		t.Error("a batch over the bound was taken")
	}
	if n := count(t, a, domain); n != 500 {
		t.Errorf("%d rows after a batch that failed, want 500", n)
	}
}

func wildText(t *testing.T, a *archive.Archive) {
	s := New("wild.test")
	s.Caller, s.Callee, s.CallID = "\x00'; DROP TABLE sessions; --", "\xff\xfe\"", strings.Repeat("\u00e5", 200)
	s.Record = bytes.Repeat([]byte{0, 255, '\''}, 1<<16)
	put(t, a, s)
	got := get(t, a, s.Domain, s.ID)
	if !bytes.Equal(got.Record, s.Record) || got.CallID != s.CallID || got.Caller != "\uFFFD'; DROP TABLE sessions; --" {
		t.Errorf("caller %q, callee %q, %d bytes of record", got.Caller, got.Callee, len(got.Record))
	}
}

func longText(t *testing.T, a *archive.Archive) {
	s := New("long.test")
	var random strings.Builder // what can be compressed would fit
	for random.Len() < 9000 {
		random.WriteString(uuid.NewString())
	}
	long := "\u00e5" + random.String()
	s.Caller, s.Callee, s.CallID = long, strings.Repeat("\u20ac", 300), long
	s.Record = []byte(long)
	put(t, a, s)
	got := get(t, a, s.Domain, s.ID)
	if got.Caller != long[:512] || got.Callee != strings.Repeat("\u20ac", 170) || got.CallID != long[:512] || string(got.Record) != long {
		t.Errorf("%d bytes of caller, %d of callee, %d of Call-ID, %d of record", len(got.Caller), len(got.Callee), len(got.CallID), len(got.Record))
	}
}

func writers(t *testing.T, a *archive.Archive) {
	const domain = "busy.test"
	s := New(domain)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 10 {
				shared := s
				shared.Version = uint64(10*i + n)
				if err := a.Put(t.Context(), New(domain), shared); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := count(t, a, domain); n != 81 {
		t.Errorf("%d rows, want 81", n)
	}
	if got := get(t, a, domain, s.ID); got.Version != 79 {
		t.Errorf("the shared row holds version %d, want the latest", got.Version)
	}
}
