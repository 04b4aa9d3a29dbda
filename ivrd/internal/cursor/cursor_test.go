package cursor_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/ivrd/internal/cursor"
	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/kit/redistest"
)

func fresh(owner string) cursor.Cursor {
	return cursor.Cursor{
		Dialogue: cursor.Dialogue{
			Session: "s", Participant: partition.NewID(partition.Random()).String(), Domain: "d.test", Leg: "l",
			MediaAddress: "m:1", Grant: 7, AllowPrivate: true,
		},
		State: cycle.Begin(7), Owner: owner, Address: owner + ":1",
	}
}

func begin(t *testing.T, s *cursor.Store, c cursor.Cursor) cursor.Cursor {
	t.Helper()
	c, isFresh, err := s.Begin(t.Context(), c)
	if err != nil || !isFresh {
		t.Fatalf("begin: fresh %t, %v", isFresh, err)
	}
	return c
}

func owners(t *testing.T, s *cursor.Store) (names []string) {
	t.Helper()
	all, err := s.Owners(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		found, err := s.List(t.Context(), o, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Errorf("%s is listed in partition %d without a dialogue", o.Owner, o.Partition)
		}
		if !slices.Contains(names, o.Owner) {
			names = append(names, o.Owner)
		}
	}
	slices.Sort(names)
	return names
}

// TestContract is what every kind of Redis must keep to.
func TestContract(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := cursor.NewStore(rdb)
		t.Run("saved and loaded", func(t *testing.T) {
			c := begin(t, s, fresh("a"))
			c.State.Number, c.State.Question.DTMFBuffer, c.Sequence = 5, "12", math.MaxUint64
			if err := s.Save(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			got, err := s.Load(t.Context(), c.Dialogue.Participant)
			if err != nil {
				t.Fatal(err)
			}
			if got != c {
				t.Errorf("loaded %+v\nsaved  %+v", got, c)
			}
			if err := s.End(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("no such dialogue", func(t *testing.T) {
			for _, participant := range []string{"nonsense", partition.NewID(3).String()} {
				if _, err := s.Load(t.Context(), participant); !errors.Is(err, cursor.ErrNone) {
					t.Errorf("load of %s: %v", participant, err)
				}
			}
			c := fresh("a")
			if _, err := s.Claim(t.Context(), c.Dialogue.Participant, "a", "b", "b:1"); !errors.Is(err, cursor.ErrNone) {
				t.Errorf("claim: %v", err)
			}
		})
		t.Run("the same start twice", func(t *testing.T) {
			c := begin(t, s, fresh("a"))
			again := c
			again.Owner, again.Address = "b", "b:1"
			got, isFresh, err := s.Begin(t.Context(), again)
			if err != nil || isFresh || got.Owner != "a" || got.Address != "a:1" {
				t.Errorf("fresh %t, %+v, %v", isFresh, got, err)
			}
			if err := s.End(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got, isFresh, err = s.Begin(t.Context(), again); err != nil || isFresh || !got.Over {
				t.Errorf("after the end: fresh %t, %+v, %v", isFresh, got, err)
			}
			if err := s.Save(t.Context(), c); !errors.Is(err, cursor.ErrNone) {
				t.Errorf("save after the end: %v", err)
			}
		})
		t.Run("grants", func(t *testing.T) {
			c := fresh("a")
			c.Dialogue.Grant = 99
			first := begin(t, s, c)
			older := c
			older.Dialogue.Grant = 98
			if _, _, err := s.Begin(t.Context(), older); !errors.Is(err, cursor.ErrGrant) {
				t.Errorf("an older grant: %v", err)
			}
			newer := c
			newer.Dialogue.Grant, newer.Owner = math.MaxUint64, "b"
			second := begin(t, s, newer)
			if second.Epoch <= first.Epoch {
				t.Errorf("epoch %d after %d", second.Epoch, first.Epoch)
			}
			if err := s.Save(t.Context(), first); !errors.Is(err, cursor.ErrEpoch) {
				t.Errorf("save by the replaced dialogue: %v", err)
			}
			if err := s.End(t.Context(), first); !errors.Is(err, cursor.ErrEpoch) {
				t.Errorf("end by the replaced dialogue: %v", err)
			}
			if got := owners(t, s); !slices.Equal(got, []string{"b"}) {
				t.Errorf("owners %v", got)
			}
			if err := s.End(t.Context(), second); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("claims", func(t *testing.T) {
			c := begin(t, s, fresh("a"))
			if _, err := s.Claim(t.Context(), c.Dialogue.Participant, "x", "b", "b:1"); !errors.Is(err, cursor.ErrEpoch) {
				t.Errorf("claim from the wrong owner: %v", err)
			}
			got, err := s.Claim(t.Context(), c.Dialogue.Participant, "a", "b", "b:1")
			if err != nil || got.Owner != "b" || got.Address != "b:1" || got.Epoch != c.Epoch+1 || got.Dialogue != c.Dialogue {
				t.Fatalf("claim: %+v, %v", got, err)
			}
			if _, err := s.Claim(t.Context(), c.Dialogue.Participant, "a", "c", "c:1"); !errors.Is(err, cursor.ErrEpoch) {
				t.Errorf("second claim: %v", err)
			}
			if err := s.Save(t.Context(), c); !errors.Is(err, cursor.ErrEpoch) {
				t.Errorf("save by the former owner: %v", err)
			}
			if got := owners(t, s); !slices.Equal(got, []string{"b"}) {
				t.Errorf("owners %v", got)
			}
			if err := s.End(t.Context(), got); err != nil {
				t.Fatal(err)
			}
			if got := owners(t, s); len(got) != 0 {
				t.Errorf("owners after the end: %v", got)
			}
			if _, err := s.Claim(t.Context(), c.Dialogue.Participant, "b", "c", "c:1"); !errors.Is(err, cursor.ErrNone) {
				t.Errorf("claim after the end: %v", err)
			}
		})
		t.Run("an expired dialogue leaves no owner", func(t *testing.T) {
			c := begin(t, s, fresh("a"))
			id, err := partition.ParseID(c.Dialogue.Participant)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := rdb.Del(t.Context(), "cm:"+partition.SlotOf(id)+":dialogue:"+id.String()).Result(); n != 1 {
				t.Fatalf("deleted %d, %v", n, err)
			}
			if _, err := s.Claim(t.Context(), c.Dialogue.Participant, "a", "b", "b:1"); !errors.Is(err, cursor.ErrNone) {
				t.Errorf("claim: %v", err)
			}
			if got := owners(t, s); len(got) != 0 {
				t.Errorf("owners %v", got)
			}
		})
		t.Run("what the store lost is put back", func(t *testing.T) {
			c := begin(t, s, fresh("a"))
			c.Epoch, c.State.Number = 4, 9
			id, err := partition.ParseID(c.Dialogue.Participant)
			if err != nil {
				t.Fatal(err)
			}
			slot := "cm:" + partition.SlotOf(id)
			if n, err := rdb.Del(t.Context(), slot+":dialogue:"+id.String(), slot+":dialogues:a", slot+":dialogue-owners").Result(); n != 3 {
				t.Fatalf("deleted %d, %v", n, err)
			}
			if err := s.Save(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if got := owners(t, s); !slices.Equal(got, []string{"a"}) {
				t.Errorf("owners %v", got)
			}
			got, err := s.Claim(t.Context(), c.Dialogue.Participant, "a", "b", "b:1")
			if err != nil || got.Epoch != 5 || got.State.Number != 9 || got.Dialogue != c.Dialogue {
				t.Errorf("claim: %+v, %v", got, err)
			}
			if err := s.End(t.Context(), got); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("either way to write an id", func(t *testing.T) {
			c := begin(t, s, fresh("a"))
			token := strings.ReplaceAll(c.Dialogue.Participant, "-", "")
			if got, err := s.Load(t.Context(), token); err != nil || got.Dialogue != c.Dialogue {
				t.Errorf("load by token: %+v, %v", got, err)
			}
			if err := s.End(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
	})
}
