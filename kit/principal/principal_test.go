package principal

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestATokenIsGoodForItsSignerAndItsTimeOnly(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	signer, err := NewSigner(bytes.Repeat([]byte{1}, 32), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSigner(bytes.Repeat([]byte{2}, 32), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	token, err := signer.Sign(Principal{Subject: "demo", Domains: []string{"a.test"}, Roles: []string{"domain"}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	p, err := signer.Verify(token)
	if err != nil || p.Subject != "demo" || !p.Covers("a.test") || p.Covers("b.test") || !p.HasRole("domain") {
		t.Errorf("verified %+v, %v", p, err)
	}
	body, sig, _ := strings.Cut(token, ".")
	for name, bad := range map[string]string{
		"empty": "", "no signature": body, "cut": body + "." + sig[:10], "changed": "x" + token, "junk": "a.b",
	} {
		if _, err := signer.Verify(bad); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	if _, err := other.Verify(token); err == nil {
		t.Error("another mesh's token verified")
	}
	now = now.Add(2 * time.Minute)
	if _, err := signer.Verify(token); err == nil {
		t.Error("an expired token verified")
	}
}

func TestASecretMustBeLong(t *testing.T) {
	if _, err := NewSigner([]byte("short"), time.Now); err == nil {
		t.Error("a 5-byte secret was taken")
	}
}
