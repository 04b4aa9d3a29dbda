package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/callmesh/callmesh/kit/redistest"
	"github.com/callmesh/callmesh/sessiond/internal/store"
	"github.com/callmesh/callmesh/sessiond/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) { redistest.Each(t, storetest.Run) }

func open(t testing.TB, rdb redis.UniversalClient) *store.Store {
	t.Helper()
	s, err := store.New(rdb, store.Options{CallSecret: storetest.Secret})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRedisGoneIsTold(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.Client())
	w := storetest.New()
	if _, err := s.Save(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	w.Version = 1
	gone := func(t *testing.T) {
		t.Helper()
		if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Save: %v", err)
		}
		if _, err := s.Load(t.Context(), w.ID); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Load: %v", err)
		}
		for _, err := range s.LiveRows(t.Context(), w.Domain) {
			if !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("LiveRows: %v", err)
			}
		}
	}
	t.Run("killed", func(t *testing.T) {
		server.Kill()
		gone(t)
		server.Restart()
	})
	if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after a restart that forgot all: %v", err)
	}
	w.Reassert = true
	if v, err := s.Save(t.Context(), w); err != nil || v != 2 {
		t.Errorf("reasserted: %d, %v", v, err)
	}
	t.Run("read-only", func(t *testing.T) {
		// What a master that was demoted says.
		if err := server.Client().ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Save(t.Context(), w); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Save: %v", err)
		}
		if err := server.Client().ReplicaOf(t.Context(), "no", "one").Err(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the caller gave up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Load(ctx, w.ID); errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("Load: %v", err)
		}
	})
}

func TestAPausedRedisIsGone(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, server.Client())
	w := storetest.New()
	if _, err := s.Save(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	w.Version = 1
	if _, err := s.Save(ctx, w); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Save: %v", err)
	}
	server.Resume()
	if _, err := s.Load(t.Context(), w.ID); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// A proxy cannot be had here, so the lost answer is made by a client that sends
// each script twice, as go-redis does when a connection breaks.
func TestAWriteRepeatedByTheClientIsOneWrite(t *testing.T) {
	rdb := redistest.Start(t).Client()
	twice := &doubling{UniversalClient: rdb}
	s := open(t, twice)
	w := storetest.New()
	w.Append = append(w.Append, storetest.Entry(w.ID, "http://app.test", "one"))
	if v, err := s.Save(t.Context(), w); err != nil || v != 1 {
		t.Fatalf("version %d, %v", v, err)
	}
	w.Version, w.Append = 1, nil
	if v, err := s.Save(t.Context(), w); err != nil || v != 2 {
		t.Fatalf("version %d, %v", v, err)
	}
}

type doubling struct{ redis.UniversalClient }

func (d *doubling) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if err := d.UniversalClient.EvalSha(ctx, sha, keys, args...).Err(); err != nil {
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(err)
		return cmd
	}
	return d.UniversalClient.EvalSha(ctx, sha, keys, args...)
}

func TestNewNeedsASecret(t *testing.T) {
	if _, err := store.New(nil, store.Options{CallSecret: []byte("short")}); err == nil {
		t.Error("a short secret was accepted")
	}
}

func BenchmarkSave(b *testing.B) {
	s := open(b, redistest.Start(b).Client())
	w := storetest.New()
	w.Record = make([]byte, 3000)
	w.Row = make([]byte, 300)
	b.ReportAllocs()
	for b.Loop() {
		v, err := s.Save(b.Context(), w)
		if err != nil {
			b.Fatal(err)
		}
		w.Version = v
	}
}

func BenchmarkSaveParallel(b *testing.B) {
	s := open(b, redistest.Start(b).Client())
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		w := storetest.New()
		w.Record = make([]byte, 3000)
		w.Row = make([]byte, 300)
		for pb.Next() {
			v, err := s.Save(b.Context(), w)
			if err != nil {
				b.Error(err)
				return
			}
			w.Version = v
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	s := open(b, redistest.Start(b).Client())
	w := storetest.New()
	w.Record = make([]byte, 3000)
	if _, err := s.Save(b.Context(), w); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Load(b.Context(), w.ID); err != nil {
			b.Fatal(err)
		}
	}
}
