package archive_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/sessiond/internal/archive"
	"github.com/callmesh/callmesh/sessiond/internal/archive/archivetest"
	"github.com/callmesh/callmesh/sessiond/internal/lane/lease"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func file(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "a folder that is not there", "archive #1?.db")
}

func TestSQLite(t *testing.T)   { archivetest.Run(t, file(t)) }
func TestPostgres(t *testing.T) { archivetest.Run(t, archivetest.Postgres(t)) }

func TestSQLiteIsDurable(t *testing.T) {
	url := file(t)
	a, err := archive.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	s := archivetest.New("d.test")
	if err := a.Put(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(url, "sqlite:")
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file is not where the URL says: %v", err)
	}
	// A program that is behind the database, as during a roll-out, leaves it alone.
	db, err := sql.Open("sqlite", strings.NewReplacer("#", "%23", "?", "%3F", " ", "%20").Replace("file:"+path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO archive_migrations (version) VALUES (9999)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := archive.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if _, err := b.Get(t.Context(), "d.test", s.ID); err != nil {
		t.Error(err)
	}
}

func TestOpenErrorsHideThePassword(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, url := range []string{
		"postgres://u:hunter2@127.0.0.1:1/db", "postgres://u:hunter2@127.0.0.1:x/db", "mysql://u:hunter2@h/db", "hunter2",
		"postgres:///db?host=/nowhere&password=hunter2", "sqlite:", "sqlite:/dev/null/x/archive.db",
	} {
		_, err := archive.Open(ctx, url)
		if err == nil {
			t.Errorf("%s was opened", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

// all holds the lease of every partition.
type all struct{}

func (all) Held() (held []lease.Held) {
	for p := range partition.Count {
		held = append(held, lease.Held{Partition: p})
	}
	return held
}

func scalars(st store.Stored) (archive.Session, error) {
	if strings.HasPrefix(string(st.Record), "broken") {
		return archive.Session{}, errors.New("no session")
	}
	return archive.Session{Caller: "caller of " + string(st.Record), Ended: time.Now()}, nil
}

func archiver(t *testing.T, q archive.Queue, a *archive.Archive) *archive.Archiver {
	t.Helper()
	r, err := archive.NewArchiver(q, a, all{}, scalars, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), archive.Options{Batch: 7})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestArchiverMovesEachSessionOnce(t *testing.T) {
	url := archivetest.Postgres(t)
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		domain := fmt.Sprintf("%x.test", time.Now().UnixNano())
		a, err := archive.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = a.Close() }()
		s, err := store.New(rdb, store.Options{CallSecret: storetest.Secret})
		if err != nil {
			t.Fatal(err)
		}
		var writes []store.Write
		for i := range 100 {
			w := storetest.New()
			w.Domain, w.Record, w.Ended = domain, fmt.Appendf(nil, "%d", i), i%10 != 0
			if i%2 == 0 {
				w.ID = partition.NewID(5) // more than a batch in one partition
			}
			if i == 1 {
				w.Record = []byte("broken")
			}
			if w.Version, err = s.Save(t.Context(), w); err != nil {
				t.Fatal(err)
			}
			writes = append(writes, w)
		}
		r := archiver(t, s, a)
		for range 2 {
			if err := r.Round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := a.Count(t.Context(), domain); err != nil || n != 90 {
			t.Errorf("%d rows, %v; want one for each of 90 ended sessions", n, err)
		}
		live := map[string]bool{}
		for row, err := range s.LiveRows(t.Context(), domain) {
			if err != nil {
				t.Fatal(err)
			}
			live[row.ID.String()] = true
		}
		for i, w := range writes {
			if live[w.ID.String()] == w.Ended {
				t.Errorf("session %d: ended %t, listed as live %t", i, w.Ended, live[w.ID.String()])
			}
			got, err := a.Get(t.Context(), domain, w.ID)
			if w.Ended != (err == nil) {
				t.Errorf("session %d: ended %t, in the archive: %v", i, w.Ended, err)
			}
			if w.Ended && string(got.Record) != string(w.Record) {
				t.Errorf("session %d: record %q", i, got.Record)
			}
		}
	})
}

func TestArchiverWaitsForTheDatabase(t *testing.T) {
	rdb := redistest.Start(t).Client()
	s, err := store.New(rdb, store.Options{CallSecret: storetest.Secret})
	if err != nil {
		t.Fatal(err)
	}
	w := storetest.New()
	w.Ended = true
	if _, err := s.Save(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	url := file(t)
	a, err := archive.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := archiver(t, s, a).Round(t.Context()); err == nil {
		t.Error("a closed database took a session")
	}
	if q, err := s.ToArchive(t.Context(), partition.Of(w.ID), 10); err != nil || len(q) != 1 {
		t.Fatalf("the queue holds %d, %v", len(q), err)
	}
	if a, err = archive.Open(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	// Archived, but the live store did not hear of it: the next round finds the row
	// there, and keeps to one.
	if err := archiver(t, deaf{s}, a).Round(t.Context()); err == nil {
		t.Error("the archiver did not notice")
	}
	if err := archiver(t, s, a).Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, _ := a.Count(t.Context(), w.Domain); n != 1 {
		t.Errorf("%d rows", n)
	}
	if q, _ := s.ToArchive(t.Context(), partition.Of(w.ID), 10); len(q) != 0 {
		t.Errorf("still queued: %v", q)
	}
}

// A row that the database does not take waits; all others are archived.
func TestARefusedSessionHoldsNobodyUp(t *testing.T) {
	rdb := redistest.Start(t).Client()
	s, err := store.New(rdb, store.Options{CallSecret: storetest.Secret})
	if err != nil {
		t.Fatal(err)
	}
	url := file(t)
	a, err := archive.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	trigger(t, url, "CREATE TRIGGER poison BEFORE INSERT ON sessions WHEN NEW.caller = 'caller of poison' BEGIN SELECT RAISE(ABORT, 'no'); END")
	save := func(p int, record string) (w store.Write) {
		t.Helper()
		w = storetest.New()
		w.ID, w.Record, w.Ended = partition.NewID(p), []byte(record), true
		if w.Version, err = s.Save(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		return w
	}
	var poison, good []store.Write
	for range 9 { // more than a batch, at the head of the queue
		poison = append(poison, save(1, "poison"))
	}
	for i := range 12 {
		good = append(good, save(1+i%2, "good"))
	}
	r := archiver(t, s, a)
	for range 4 { // a batch of seven each
		err = r.Round(t.Context())
	}
	if err != nil {
		t.Errorf("a session that rests was tried: %v", err)
	}
	for i, w := range good {
		if _, err := a.Get(t.Context(), w.Domain, w.ID); err != nil {
			t.Errorf("session %d: %v", i, err)
		}
	}
	if q, err := s.ToArchive(t.Context(), 1, 100); err != nil || len(q) != len(poison) {
		t.Errorf("%d sessions wait, %v; want the %d that were refused", len(q), err, len(poison))
	}
	trigger(t, url, "DROP TRIGGER poison")
	if err := archiver(t, s, a).Round(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, w := range poison {
		if _, err := a.Get(t.Context(), w.Domain, w.ID); err != nil {
			t.Errorf("refused session %d: %v", i, err)
		}
	}
}

func trigger(t *testing.T, url, statement string) {
	t.Helper()
	path := strings.NewReplacer("#", "%23", "?", "%3F", " ", "%20").Replace(strings.TrimPrefix(url, "sqlite:"))
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

type deaf struct{ *store.Store }

func (deaf) Archived(context.Context, uuid.UUID, string, uint64) (bool, error) {
	return false, errors.New("gone")
}

func BenchmarkPutBatchOf100(b *testing.B) {
	for name, url := range map[string]string{"sqlite": file(b), "postgres": archivetest.Postgres(b)} {
		b.Run(name, func(b *testing.B) {
			a, err := archive.Open(b.Context(), url)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = a.Close() }()
			for b.Loop() {
				batch := make([]archive.Session, 100)
				for i := range batch {
					batch[i] = archivetest.New("bench.test")
					batch[i].Record = make([]byte, 3000)
				}
				if err := a.Put(b.Context(), batch...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
