// Package principal says on whose behalf a request is made. The gateway turns
// a credential into a principal and signs it; daemons sign themselves as
// services; every daemon checks the signature, so that reaching a port is not
// enough to be obeyed.
package principal

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Principal is who asks.
type Principal struct {
	// Subject is the key id, the user, or the service's name.
	Subject string `json:"sub"`
	// Service is set for a daemon of the mesh: "gateway", "ivrd", ….
	Service string `json:"svc,omitempty"`
	// Domains that the principal speaks for; "*" covers all.
	Domains []string `json:"dom,omitempty"`
	Roles   []string `json:"rol,omitempty"`
}

// Covers tells whether the principal may speak for the domain. A service may:
// it acts for all of them.
func (p Principal) Covers(domain string) bool {
	return p.Service != "" || slices.Contains(p.Domains, domain) || slices.Contains(p.Domains, "*")
}

// HasRole tells whether the principal holds one of the roles.
func (p Principal) HasRole(roles ...string) bool {
	return slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(p.Roles, r) })
}

type claims struct {
	Principal
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
}

// audience keeps these tokens apart from replyIds and API tokens, which have
// other keys besides.
const audience = "callmesh/mesh"

// Signer signs and verifies principals with the secret of the mesh.
type Signer struct {
	secret []byte
	now    func() time.Time
}

// NewSigner returns a signer; the secret must be at least 32 bytes.
func NewSigner(secret []byte, now func() time.Time) (*Signer, error) {
	if len(secret) < 32 {
		return nil, fmt.Errorf("mesh secret: %d bytes, need at least 32", len(secret))
	}
	return &Signer{secret: slices.Clone(secret), now: now}, nil
}

// Sign returns a token for p that is good for ttl.
func (s *Signer) Sign(p Principal, ttl time.Duration) (string, error) {
	body, err := json.Marshal(claims{Principal: p, Audience: audience, Expires: s.now().Add(ttl).Unix()})
	if err != nil {
		return "", fmt.Errorf("sign principal: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(body)
	return text + "." + base64.RawURLEncoding.EncodeToString(s.mac(text)), nil
}

// Verify returns the principal of a token, or an error that says which check
// failed without showing the token.
func (s *Signer) Verify(token string) (Principal, error) {
	text, sig, ok := strings.Cut(token, ".")
	if !ok {
		return Principal{}, fmt.Errorf("principal token: malformed")
	}
	got, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || !hmac.Equal(got, s.mac(text)) {
		return Principal{}, fmt.Errorf("principal token: bad signature")
	}
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return Principal{}, fmt.Errorf("principal token: malformed")
	}
	var c claims
	if err := json.Unmarshal(body, &c); err != nil || c.Audience != audience {
		return Principal{}, fmt.Errorf("principal token: malformed")
	}
	if s.now().Unix() > c.Expires {
		return Principal{}, fmt.Errorf("principal token: expired")
	}
	return c.Principal, nil
}

func (s *Signer) mac(text string) []byte {
	h := hmac.New(sha256.New, s.secret)
	h.Write([]byte(text))
	return h.Sum(nil)
}

type (
	incomingKey struct{}
	outgoingKey struct{}
)

// With returns ctx with the principal that the request came from.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, incomingKey{}, p)
}

// From returns the principal of the request; the zero Principal, which may do
// nothing, if there is none.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(incomingKey{}).(Principal)
	return p
}

// As returns ctx under which outgoing calls are made in p's name rather than
// in the daemon's own.
func As(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, outgoingKey{}, p)
}

// Outgoing returns the principal set by As.
func Outgoing(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(outgoingKey{}).(Principal)
	return p, ok
}
