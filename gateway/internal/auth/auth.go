// Package auth tells on whose behalf an HTTP request is made. The directory
// knows the keys; the last answers are kept for a short while, so that a busy
// key costs no look-up.
package auth

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/principal"
	directorypb "github.com/callmesh/callmesh/proto/gen/callmesh/directory/v1"
)

// Verifier is the directory, as far as keys go.
type Verifier interface {
	VerifyKey(context.Context, *directorypb.VerifyKeyRequest, ...grpc.CallOption) (*directorypb.VerifyKeyResponse, error)
}

const (
	// goodFor bounds how long a revoked key still works.
	goodFor = 15 * time.Second
	// badFor is how long a new key may seem unknown after a mistaken first use.
	badFor = 3 * time.Second
	// capacity of each of the two caches; good and bad keys are apart, so that
	// guessing keys does not push out those in use.
	capacity = 10_000
	patience = 3 * time.Second
	// maxKey is far beyond any key we issue.
	maxKey = 1024
)

type digest [sha256.Size]byte

// Keys turns API keys into principals.
type Keys struct {
	directory Verifier
	now       func() time.Time

	mu      sync.Mutex
	good    *recent[principal.Principal]
	bad     *recent[struct{}]
	flights map[digest]*flight
}

// flight is one look-up that several requests wait for.
type flight struct {
	done chan struct{}
	p    principal.Principal
	err  error
}

// New returns Keys that ask the directory.
func New(directory Verifier, now func() time.Time) *Keys {
	return &Keys{
		directory: directory, now: now,
		good: newRecent[principal.Principal](capacity, goodFor), bad: newRecent[struct{}](capacity, badFor),
		flights: make(map[digest]*flight),
	}
}

func refused() error { return fault.New(fault.Unauthenticated, "credential is missing or invalid") }

// Principal returns whom the request's credential belongs to.
func (k *Keys) Principal(ctx context.Context, h http.Header) (principal.Principal, error) {
	key, ok := bearer(h)
	if !ok {
		return principal.Principal{}, refused()
	}
	sum := digest(sha256.Sum256([]byte(key)))
	p, f, mine, err := k.recall(sum)
	switch {
	case err != nil || f == nil:
		return p, err
	case mine:
		k.look(ctx, sum, f)
		return f.p, f.err
	}
	select {
	case <-f.done:
		return f.p, f.err
	case <-ctx.Done():
		return principal.Principal{}, fault.New(fault.Timeout, "the request was cancelled").Because(ctx.Err())
	}
}

// recall answers from memory, or else returns the look-up to wait for, which is
// the caller's to make if mine is set.
func (k *Keys) recall(sum digest) (p principal.Principal, f *flight, mine bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if p, ok := k.good.get(sum, now); ok {
		return p, nil, false, nil
	}
	if _, ok := k.bad.get(sum, now); ok {
		return principal.Principal{}, nil, false, refused()
	}
	if f := k.flights[sum]; f != nil {
		return principal.Principal{}, f, false, nil
	}
	f = &flight{done: make(chan struct{})}
	k.flights[sum] = f
	return principal.Principal{}, f, true, nil
}

// look asks the directory. It outlives its own request, since others wait too.
func (k *Keys) look(ctx context.Context, sum digest, f *flight) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	answer, err := k.directory.VerifyKey(ctx, &directorypb.VerifyKeyRequest{KeySha256: sum[:]})
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err == nil:
		f.p = principal.Principal{Subject: answer.GetSubject(), Domains: answer.GetDomains(), Roles: answer.GetRoles()}
		k.good.put(sum, f.p, k.now())
	case fault.ReasonOf(err) == fault.Unauthenticated:
		f.err = refused()
		k.bad.put(sum, struct{}{}, k.now())
	default:
		f.err = fault.New(fault.Unavailable, "credentials cannot be checked at the moment").Because(err)
	}
	delete(k.flights, sum)
	close(f.done)
}

// bearer returns the key of an Authorization header (RFC 6750 §2.1; the scheme
// is case-insensitive by RFC 9110 §11.1).
func bearer(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	key = strings.Trim(key, " ")
	return key, strings.EqualFold(scheme, "Bearer") && key != "" && len(key) <= maxKey
}
