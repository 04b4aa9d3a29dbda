package peers

import (
	"context"
	"iter"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/registry"
	"github.com/callmesh/callmesh/sessiond/internal/store"
)

// world is a registry, a way to peers that nobody answers, and a store with one
// session of the instance B.
type world struct {
	announced []registry.Instance
	dialled   []string
	claimed   int
	adopted   int
}

func (w *world) List(context.Context, string) ([]registry.Instance, error) { return w.announced, nil }

func (w *world) Instance(address string) (*grpc.ClientConn, error) {
	w.dialled = append(w.dialled, address)
	return nil, context.Canceled
}

func (w *world) Owners(context.Context) ([]string, error) { return []string{"B"}, nil }

func (w *world) OwnedBy(context.Context, string) iter.Seq2[uuid.UUID, error] {
	return func(yield func(uuid.UUID, error) bool) { yield(uuid.New(), nil) }
}

func (w *world) Load(_ context.Context, id uuid.UUID) (store.Stored, error) {
	return store.Stored{ID: id, Owner: "B", Epoch: 1}, nil
}

func (w *world) Claim(context.Context, uuid.UUID, string, string, uint64) (uint64, error) {
	w.claimed++
	return 2, nil
}

func (w *world) Adopt(context.Context, store.Stored) error { w.adopted++; return nil }

func (w *world) reaper() *Reaper {
	return &Reaper{Peers: New("A", w, w, w), Sessions: w, Adopter: w, Log: slog.New(slog.DiscardHandler)}
}

func (w *world) sweeps(t *testing.T, r *Reaper, n int) {
	t.Helper()
	for range n {
		if err := r.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyTheDeadAreInherited(t *testing.T) {
	both := []registry.Instance{{Name: "A", Address: "a"}, {Name: "B", Address: "b"}}
	w := &world{announced: both}
	r := w.reaper()
	w.sweeps(t, r, 10)
	if w.claimed != 0 {
		t.Fatal("sessions of a live instance were claimed")
	}
	// Redis was away: all heartbeats have expired, and B has yet to announce itself.
	w.announced = both[:1]
	w.sweeps(t, r, patience-1)
	w.announced = both
	w.sweeps(t, r, 1)
	w.announced = both[:1]
	w.sweeps(t, r, patience-1)
	if w.claimed != 0 {
		t.Fatal("claimed before the owner had time to announce itself again")
	}
	w.sweeps(t, r, 1)
	if w.claimed != 1 || w.adopted != 1 {
		t.Errorf("claimed %d, adopted %d, want the dead one's session", w.claimed, w.adopted)
	}
	if len(w.dialled) != 1 || w.dialled[0] != "b" {
		t.Errorf("asked %v before claiming, want the silent instance itself", w.dialled)
	}
}
