package tag

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func sealer(t testing.TB, fill byte) *Sealer {
	t.Helper()
	s, err := NewSealer(bytes.Repeat([]byte{fill}, SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseReturnsWhatMakeSealed(t *testing.T) {
	s := sealer(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		id := uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		leg := rapid.Uint8().Draw(t, "leg")
		tag := s.Make(id, leg)
		if len(tag) != Length {
			t.Fatalf("length %d, want %d", len(tag), Length)
		}
		for _, spelt := range []string{tag, strings.ToUpper(tag)} {
			gotID, gotLeg, err := s.Parse(spelt)
			if err != nil || gotID != id || gotLeg != leg {
				t.Fatalf("Parse(%q) = %v, %d, %v", spelt, gotID, gotLeg, err)
			}
		}
	})
}

func TestParseRefusesEveryChange(t *testing.T) {
	s := sealer(t, 1)
	tag := s.Make(uuid.New(), 3)
	for i := range tag {
		b := []byte(tag)
		if b[i] = 'a'; tag[i] == 'a' {
			b[i] = 'b'
		}
		if _, _, err := s.Parse(string(b)); !errors.Is(err, ErrForeign) {
			t.Errorf("a change at %d went through: %v", i, err)
		}
	}
	for _, other := range []string{"", "as7d6f", tag[1:], tag + "a", strings.Repeat("1", Length), strings.Repeat("a", Length), strings.Repeat("ä", Length/2)} {
		if _, _, err := s.Parse(other); !errors.Is(err, ErrForeign) {
			t.Errorf("Parse(%q): %v", other, err)
		}
	}
}

func TestTagsOfAnotherDeploymentAreForeign(t *testing.T) {
	if _, _, err := sealer(t, 2).Parse(sealer(t, 1).Make(uuid.New(), 0)); !errors.Is(err, ErrForeign) {
		t.Fatalf("err = %v", err)
	}
}

func TestTagsRevealNothingOfTheirSession(t *testing.T) {
	s := sealer(t, 1)
	id := uuid.MustParse("01890a5d-ac96-774b-bcce-b302099a8057")
	a, b := s.Make(id, 0), s.Make(id, 1)
	same := 0
	for i := range a {
		if a[i] == b[i] {
			same++
		}
	}
	if same > Length/2 {
		t.Fatalf("tags of two legs share %d of %d digits: %s %s", same, Length, a, b)
	}
	if s.Make(id, 0) != a {
		t.Fatal("the same leg got another tag")
	}
}

func TestSecretMustBeWhole(t *testing.T) {
	if _, err := NewSealer(make([]byte, 31)); err == nil {
		t.Fatal("a short secret was taken")
	}
}

func BenchmarkParse(b *testing.B) {
	s := sealer(b, 1)
	tag := s.Make(uuid.New(), 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Parse(tag); err != nil {
			b.Fatal(err)
		}
	}
}
