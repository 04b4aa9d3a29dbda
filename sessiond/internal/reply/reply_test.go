package reply

import (
	"bytes"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/callmesh/callmesh/kit/fault"
)

func TestAReplyIDLeadsBackToItsCall(t *testing.T) {
	s := NewSigner(bytes.Repeat([]byte{1}, 32), time.Now)
	want := ID{Domain: "a.test", Session: uuid.New(), Participant: uuid.New(), Command: "c7", Server: "10.0.0.1"}
	token, err := s.Sign(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Verify(token, "a.test"); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestForeignAndForgedReplyIDsAreUnknown(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	s := NewSigner(key, time.Now)
	good, err := s.Sign(ID{Domain: "a.test", Session: uuid.New()})
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewSigner(bytes.Repeat([]byte{2}, 32), time.Now).Sign(ID{Domain: "a.test", Session: uuid.New()})
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims{Domain: "a.test"}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	apiToken, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{Domain: "a.test", Session: uuid.NewString()}).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		token, domain string
		want          fault.Reason
	}{
		"another domain":          {good, "b.test", fault.ReplyIDInvalid},
		"another key":             {other, "a.test", fault.ReplyIDInvalid},
		"no signature":            {unsigned, "a.test", fault.ReplyIDInvalid},
		"a token of another kind": {apiToken, "a.test", fault.ReplyIDInvalid},
		"garbage":                 {"x.y.z", "a.test", fault.ReplyIDInvalid},
		"none":                    {"", "a.test", fault.BadRequest},
	} {
		if _, err := s.Verify(tc.token, tc.domain); fault.ReasonOf(err) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
