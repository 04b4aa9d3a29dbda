package partition_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/partition"
)

func TestNewIDCarriesItsPartition(t *testing.T) {
	seen := map[uuid.UUID]bool{}
	for p := range partition.Count {
		for range 50 {
			id := partition.NewID(p)
			if partition.Of(id) != p {
				t.Fatalf("Of(%s) = %d, want %d", id, partition.Of(id), p)
			}
			if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
				t.Fatalf("%s: version %d, variant %s", id, id.Version(), id.Variant())
			}
			if seen[id] {
				t.Fatalf("%s was handed out twice", id)
			}
			seen[id] = true
		}
	}
}

func TestIDsOfOneProcessAreInOrder(t *testing.T) {
	last := partition.NewID(63)
	for range 1000 {
		next := partition.NewID(0)
		if strings.Compare(partition.Token(next), partition.Token(last)) <= 0 {
			t.Fatalf("%s came after %s", next, last)
		}
		last = next
	}
}

func TestParseID(t *testing.T) {
	id := partition.NewID(17)
	for _, text := range []string{id.String(), partition.Token(id), strings.ToUpper(id.String())} {
		got, err := partition.ParseID(text)
		if err != nil || got != id {
			t.Errorf("ParseID(%q) = %s, %v", text, got, err)
		}
	}
	bad := []string{"", "x", "{" + id.String() + "}", "urn:uuid:" + id.String(), strings.Repeat("g", 32), strings.Repeat("0", 33), id.String()[:35] + "\n"}
	for _, text := range bad {
		if got, err := partition.ParseID(text); err == nil {
			t.Errorf("ParseID(%q) = %s, want an error", text, got)
		}
	}
}

func TestForKeyIsKeyedAndEven(t *testing.T) {
	a, b := []byte("one secret"), []byte("another")
	var counts [partition.Count]int
	same := 0
	const n = 6400
	for i := range n {
		text := "call-" + string(rune('a'+i%26)) + uuid.NewString()
		p := partition.ForKey(a, text)
		if p != partition.ForKey(a, text) {
			t.Fatal("the same key gave two partitions")
		}
		if p == partition.ForKey(b, text) {
			same++
		}
		counts[p]++
	}
	if same > n/10 {
		t.Errorf("%d of %d keys fell into the same partition under another secret", same, n)
	}
	for p, c := range counts {
		if c < 40 || c > 200 { // 100 expected; these bounds are six sigma away
			t.Errorf("partition %d got %d of %d keys", p, c, n)
		}
	}
}

func TestSlot(t *testing.T) {
	if got := partition.Slot(17); got != "{p17}" {
		t.Errorf("Slot(17) = %q", got)
	}
	if id := partition.NewID(5); partition.SlotOf(id) != "{p5}" {
		t.Errorf("SlotOf = %q", partition.SlotOf(id))
	}
	for _, p := range []int{-1, partition.Count} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Slot(%d) did not panic", p)
				}
			}()
			partition.Slot(p)
		}()
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("0190a3b2-7c1d-7e2f-8a3b-4c5d6e7f8091")
	f.Add("0190a3b27c1d7e2f8a3b4c5d6e7f8091")
	f.Add("{0190a3b2-7c1d-7e2f-8a3b-4c5d6e7f8091}")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := partition.ParseID(text)
		if err != nil {
			return
		}
		low := strings.ToLower(text)
		if low != id.String() && low != partition.Token(id) {
			t.Errorf("%q was read as %s", text, id)
		}
	})
}

func BenchmarkNewID(b *testing.B) {
	for b.Loop() {
		partition.NewID(17)
	}
}

func BenchmarkForKey(b *testing.B) {
	secret := make([]byte, 32)
	for b.Loop() {
		partition.ForKey(secret, "a84b4c76e66710@pc33.atlanta.example.com")
	}
}
