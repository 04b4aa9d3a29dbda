// Package store keeps live sessions in Redis: the record, its owner, its row in
// the list of live sessions, the notifications it gives rise to, and its place in
// the queue for the archive. All of it lies in the slot of the session's
// partition, and whatever changes together is changed by one script.
//
// Only a session's owner writes it. The owner is an instance together with an
// epoch, a number that grows when the session is claimed by another; a write
// under a former epoch changes nothing.
package store

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
)

// Faults of this package, to be compared by errors.Is.
var (
	// ErrNotFound: there is no such session, or no longer.
	ErrNotFound = fault.New(fault.SessionNotFound, "session not found")
	// ErrStaleWrite: somebody wrote the session since the caller read it.
	ErrStaleWrite = fault.New(fault.StaleWrite, "the session changed meanwhile")
	// ErrStaleEpoch: the caller no longer owns the session.
	ErrStaleEpoch = fault.New(fault.StaleEpoch, "the session belongs to another instance")
	// ErrUnavailable: Redis cannot be reached, or cannot be written. Whether the
	// write took place is unknown: it is repeated with Reassert (see package
	// journal), which is safe.
	ErrUnavailable = fault.New(fault.Unavailable, "the session store cannot be reached")
)

// Write is a new state of a session.
type Write struct {
	ID uuid.UUID
	// Domain is fixed when the session is created.
	Domain string
	// Owner and Epoch are those under which the writer holds the session.
	Owner string
	Epoch uint64
	// Version is the one that was read; 0 creates the session.
	Version uint64
	Record  []byte
	// Row holds the searchable scalars of a live session as compact JSON; nil
	// takes the session off the list. A session that ends keeps its row until the
	// archive has it.
	Row []byte
	// Append holds the notifications of this change; each takes effect once,
	// however often it is written.
	Append []lane.Entry
	// Ended queues the session for the archive.
	Ended bool
	// Reassert also writes where Redis knows no version, an earlier one than was
	// read, or this very write already, as long as nobody else has claimed the
	// session: for the time after an outage or a failover of Redis, which may have
	// lost acknowledged writes. A later version is left alone: ErrStaleWrite.
	Reassert bool
}

// Stored is a session as it was read.
type Stored struct {
	ID      uuid.UUID
	Domain  string
	Record  []byte
	Owner   string
	Epoch   uint64
	Version uint64
}

// Lanes hears of lanes that have got entries, so that they are delivered at
// once. It must not block.
type Lanes interface{ Kick(refs ...lane.Ref) }

// Options configure a store.
type Options struct {
	// CallSecret keys the hash of Call-IDs; the same in all instances.
	CallSecret []byte
	// Lanes may be nil: appended entries then wait for the holder of the lease.
	Lanes Lanes
	// KeepEnded is how long the record of an archived session still answers stray
	// SIP and reads before it is deleted. Zero means a minute.
	KeepEnded time.Duration
	// Log is told of notifications that are dropped; nil tells nobody.
	Log *slog.Logger
}

// Store is the live sessions in one Redis.
type Store struct {
	rdb redis.UniversalClient
	o   Options
}

// New returns the store kept in rdb.
func New(rdb redis.UniversalClient, o Options) (*Store, error) {
	if len(o.CallSecret) < 16 {
		return nil, errors.New("store: the secret for Call-IDs needs 16 bytes or more")
	}
	if o.KeepEnded <= 0 {
		o.KeepEnded = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{rdb: rdb, o: o}, nil
}

// Keys of design §3. The owned index is one sorted set a partition whose members
// begin with the owner, as a script may only write to keys it was given.
func sessionKey(id uuid.UUID) string {
	return "cm:" + partition.SlotOf(id) + ":session:" + partition.Token(id)
}
func rowsKey(p int, domain string) string { return "cm:" + partition.Slot(p) + ":rows:" + domain }
func ownedKey(p int) string               { return "cm:" + partition.Slot(p) + ":owned" }
func archiveKey(p int) string             { return "cm:" + partition.Slot(p) + ":archive" }
func numberKey(p int) string              { return "cm:" + partition.Slot(p) + ":number" }

//go:embed save.lua
var saveLua string

var (
	saveScript   = redis.NewScript(lane.AppendLua + saveLua)
	appendScript = redis.NewScript(lane.AppendLua + appendLua)
	claimScript  = redis.NewScript(claimLua)
)

// Codes that the scripts return in place of a version.
const (
	codeStaleWrite = -1
	codeStaleEpoch = -2
	codeMissing    = -3
	codeDomain     = -4
)

// Save writes w and returns the new version. It fails with ErrStaleWrite,
// ErrStaleEpoch, ErrNotFound (a later version of a session that is gone) or
// ErrUnavailable, and then has changed nothing, ErrUnavailable excepted.
func (s *Store) Save(ctx context.Context, w Write) (uint64, error) {
	entries, _ := s.fit(ctx, w.Append)
	laneKeys, laneArgs, err := lane.AppendArgs(w.ID, entries)
	if err != nil {
		return 0, err
	}
	if !validOwner(w.Owner) || w.Domain == "" || w.Epoch == 0 {
		return 0, fmt.Errorf("store: session %s written without domain, owner or epoch", w.ID)
	}
	p := partition.Of(w.ID)
	keys := append([]string{
		sessionKey(w.ID), rowsKey(p, w.Domain), ownedKey(p), archiveKey(p), lane.DueKey(p), lane.SeenKey(w.ID),
	}, laneKeys...)
	// go-redis repeats a command whose answer it lost; by the nonce the script knows
	// that it has done this write already.
	nonce := strconv.FormatUint(rand.Uint64(), 36)
	args := append([]any{
		partition.Token(w.ID), w.Domain, w.Owner, w.Epoch, w.Version, w.Record, w.Row, len(w.Row),
		w.Ended, w.Reassert, nonce, lane.SeenFor.Milliseconds(), len(entries),
	}, laneArgs...)
	reply, err := saveScript.Run(ctx, s.rdb, keys, args...).Int64Slice()
	if err != nil {
		return 0, fmt.Errorf("save session %s: %w", w.ID, classify(ctx, err))
	}
	version, err := outcome(w.ID, reply[0])
	if err != nil {
		return 0, err
	}
	s.kick(entries, reply[1:])
	return version, nil
}

// fit makes entries short enough for their lanes, and says where each was.
// Those that cannot be are dropped: they must not hold up the session's state.
func (s *Store) fit(ctx context.Context, entries []lane.Entry) (fit []lane.Entry, at []int) {
	for i, e := range entries {
		short, ok := lane.Fit(e)
		if !ok {
			s.o.Log.ErrorContext(ctx, "notification dropped, as it is too long", "session", e.Session, "kind", e.Kind, "bytes", len(e.Body))
			continue
		}
		fit, at = append(fit, short), append(at, i)
	}
	return fit, at
}

// Fence is the right by which a notification is appended.
type Fence struct {
	Owner string
	Epoch uint64
}

// Append queues notifications that go with no change of state. A zero fence
// appends whoever owns the session, and also when it is archived already: for
// events such as recordingReady that come when they are ready. All entries must
// be of one session.
func (s *Store) Append(ctx context.Context, f Fence, entries ...lane.Entry) ([]lane.Result, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	id := entries[0].Session
	results := make([]lane.Result, len(entries))
	for i := range results {
		results[i] = lane.Dropped
	}
	entries, at := s.fit(ctx, entries)
	laneKeys, laneArgs, err := lane.AppendArgs(id, entries)
	if err != nil {
		return nil, err
	}
	p := partition.Of(id)
	keys := append([]string{sessionKey(id), lane.DueKey(p), lane.SeenKey(id)}, laneKeys...)
	args := append([]any{f.Owner, f.Epoch, lane.SeenFor.Milliseconds(), len(entries)}, laneArgs...)
	reply, err := appendScript.Run(ctx, s.rdb, keys, args...).Int64Slice()
	if err != nil {
		return nil, fmt.Errorf("append to the lanes of session %s: %w", id, classify(ctx, err))
	}
	if _, err := outcome(id, reply[0]); err != nil {
		return nil, err
	}
	for i, was := range at {
		results[was] = lane.Result(reply[1+i])
	}
	s.kick(entries, reply[1:])
	return results, nil
}

func (s *Store) kick(entries []lane.Entry, results []int64) {
	if s.o.Lanes == nil {
		return
	}
	for i, e := range entries {
		// A duplicate may be this very write, repeated by the client.
		if i < len(results) && lane.Result(results[i]) != lane.Dropped {
			s.o.Lanes.Kick(e.Ref())
		}
	}
}

// outcome reads a script's first result: a version, or a code.
func outcome(id uuid.UUID, n int64) (uint64, error) {
	switch n {
	case codeStaleWrite:
		return 0, fmt.Errorf("session %s: %w", id, ErrStaleWrite)
	case codeStaleEpoch:
		return 0, fmt.Errorf("session %s: %w", id, ErrStaleEpoch)
	case codeMissing:
		return 0, fmt.Errorf("session %s: %w", id, ErrNotFound)
	case codeDomain:
		return 0, fmt.Errorf("store: session %s belongs to another domain", id)
	}
	return uint64(n), nil
}

// Load returns a live or just archived session, or ErrNotFound.
func (s *Store) Load(ctx context.Context, id uuid.UUID) (Stored, error) {
	values, err := s.rdb.HMGet(ctx, sessionKey(id), "rec", "dom", "owner", "epoch", "ver").Result()
	if err != nil {
		return Stored{}, fmt.Errorf("load session %s: %w", id, classify(ctx, err))
	}
	return decode(id, values)
}

func decode(id uuid.UUID, values []any) (Stored, error) {
	var texts [5]string
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			return Stored{}, fmt.Errorf("session %s: %w", id, ErrNotFound)
		}
		texts[i] = text
	}
	st := Stored{ID: id, Record: []byte(texts[0]), Domain: texts[1], Owner: texts[2]}
	var err1, err2 error
	st.Epoch, err1 = strconv.ParseUint(texts[3], 10, 64)
	st.Version, err2 = strconv.ParseUint(texts[4], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return Stored{}, fmt.Errorf("load session %s: %w", id, err)
	}
	return st, nil
}

// Claim makes newOwner the owner of a session that ifOwner held under ifEpoch,
// and returns the new epoch. It fails with ErrStaleEpoch where the session is
// held otherwise by now, and with ErrNotFound.
func (s *Store) Claim(ctx context.Context, id uuid.UUID, newOwner, ifOwner string, ifEpoch uint64) (uint64, error) {
	if !validOwner(newOwner) {
		return 0, fmt.Errorf("store: %q cannot own session %s", newOwner, id)
	}
	p := partition.Of(id)
	n, err := claimScript.Run(ctx, s.rdb, []string{sessionKey(id), ownedKey(p)},
		partition.Token(id), newOwner, ifOwner, ifEpoch).Int64()
	if err != nil {
		return 0, fmt.Errorf("claim session %s: %w", id, classify(ctx, err))
	}
	return outcome(id, n)
}

// validOwner refuses what the owned index could not tell apart.
func validOwner(name string) bool { return name != "" && !strings.Contains(name, "/") }

// NextNumber returns a number that no other session of the deployment has: the
// next of the partition's, interleaved with those of the others.
func (s *Store) NextNumber(ctx context.Context, p int) (int64, error) {
	n, err := s.rdb.Incr(ctx, numberKey(p)).Result()
	if err != nil {
		return 0, fmt.Errorf("number a session: %w", classify(ctx, err))
	}
	return n*partition.Count + int64(p), nil
}
