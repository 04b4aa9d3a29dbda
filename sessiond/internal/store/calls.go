package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/partition"
)

// Ref is a leg that uses a Call-ID.
type Ref struct {
	Session uuid.UUID
	Leg     uint8
}

func (r Ref) member() string {
	return partition.Token(r.Session) + "/" + strconv.Itoa(int(r.Leg))
}

// callKey gives each Call-ID a slot of its own. The Call-ID itself is not part
// of the key, as a stranger who chooses one could choose the slot by it.
func (s *Store) callKey(callID string) string {
	sum := partition.Digest(s.o.CallSecret, callID)
	return "cm:{c" + hex.EncodeToString(sum[:16]) + "}:callid"
}

// maxRefs bounds the legs of one Call-ID: a caller who sends INVITEs under one
// Call-ID for ever pushes out only his own oldest.
const maxRefs = 64

// indexLua adds a leg and lets the index live as long as the longest of its ttls.
// KEYS: index   ARGV: member, ms to live, cap
var indexScript = redis.NewScript(`
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', t[1] * 1000000 + t[2]), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -(ARGV[3] + 1))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1`)

// IndexCall notes that a leg uses a Call-ID: before the INVITE is answered or
// sent, so that another instance finds the session by it.
func (s *Store) IndexCall(ctx context.Context, callID string, session uuid.UUID, leg uint8, ttl time.Duration) error {
	ref := Ref{Session: session, Leg: leg}
	err := indexScript.Run(ctx, s.rdb, []string{s.callKey(callID)}, ref.member(), ttl.Milliseconds(), maxRefs).Err()
	if err != nil {
		return fmt.Errorf("index the call of session %s: %w", session, classify(ctx, err))
	}
	return nil
}

// LookupCall returns the legs that use a Call-ID, the newest first; none is no
// error.
func (s *Store) LookupCall(ctx context.Context, callID string) ([]Ref, error) {
	members, err := s.rdb.ZRevRange(ctx, s.callKey(callID), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("look up a call: %w", classify(ctx, err))
	}
	refs := make([]Ref, 0, len(members))
	for _, m := range members {
		token, number, _ := strings.Cut(m, "/")
		id, err := partition.ParseID(token)
		if err != nil {
			return nil, fmt.Errorf("look up a call: %w", err)
		}
		leg, err := strconv.ParseUint(number, 10, 8)
		if err != nil {
			return nil, fmt.Errorf("look up a call: %w", err)
		}
		refs = append(refs, Ref{Session: id, Leg: uint8(leg)})
	}
	return refs, nil
}

// ForgetCall takes a leg off its Call-ID before the index expires.
func (s *Store) ForgetCall(ctx context.Context, callID string, session uuid.UUID, leg uint8) error {
	ref := Ref{Session: session, Leg: leg}
	if err := s.rdb.ZRem(ctx, s.callKey(callID), ref.member()).Err(); err != nil {
		return fmt.Errorf("forget the call of session %s: %w", session, classify(ctx, err))
	}
	return nil
}
