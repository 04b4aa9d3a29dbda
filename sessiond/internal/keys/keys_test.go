package keys

import (
	"bytes"
	"testing"
)

func TestKeysDifferByPurposeAndRepeatByMaster(t *testing.T) {
	a, err := Derive(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Derive(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a.Tag, a.Reply) || bytes.Equal(a.Reply, a.Partition) || !bytes.Equal(a.Tag, b.Tag) {
		t.Error("keys are not one for each purpose, the same for one master")
	}
	if _, err := Derive([]byte("short")); err == nil {
		t.Error("a short master was taken")
	}
}

func TestASealedSecretOpensInItsPlaceOnly(t *testing.T) {
	s, err := Derive(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	sealed := s.Seal([]byte("hush"), "a.test/auth")
	if plain, err := s.Open(sealed, "a.test/auth"); err != nil || string(plain) != "hush" {
		t.Errorf("%q, %v", plain, err)
	}
	if bytes.Contains(sealed, []byte("hush")) {
		t.Error("the secret shows")
	}
	sealed[len(sealed)-1] ^= 1
	for _, bad := range [][]byte{sealed, nil, s.Seal([]byte("hush"), "b.test/auth")} {
		if _, err := s.Open(bad, "a.test/auth"); err == nil {
			t.Error("opened")
		}
	}
}
