// Package cursor keeps where each dialogue stands, so that another instance can
// go on with it. A cursor has an owner and an epoch that grows with each change
// of owner: a write under an old epoch is refused, whoever sends it.
package cursor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/ivrd/internal/cycle"
	"github.com/callmesh/callmesh/kit/partition"
)

// Dialogue is what does not change during a dialogue.
type Dialogue struct {
	Session      string `json:"session"`
	Participant  string `json:"participant"`
	Domain       string `json:"domain"`
	Leg          string `json:"leg"`
	MediaAddress string `json:"mediaAddress"`
	Grant        uint64 `json:"grant"`
	AllowPrivate bool   `json:"allowPrivate,omitempty"`
	// Trace is the call's trace, as a traceparent (W3C Trace Context).
	Trace string `json:"trace,omitempty"`
}

// Cursor is a dialogue and its place.
type Cursor struct {
	Dialogue Dialogue
	State    cycle.State
	// Sequence is the last event of the leg that State has taken in.
	Sequence uint64
	Owner    string
	// Address is where the owner is reached.
	Address string
	Epoch   int64
	// Over: the dialogue has ended; kept for a while so that a repeated start does
	// not begin it anew.
	Over bool
}

// Errors that the store returns.
var (
	// ErrNone: there is no such dialogue.
	ErrNone = errors.New("cursor: no such dialogue")
	// ErrEpoch: another instance has the dialogue.
	ErrEpoch = errors.New("cursor: another instance owns the dialogue")
	// ErrGrant: the leg has been granted anew since.
	ErrGrant = errors.New("cursor: the grant is older than the dialogue's")
)

const (
	// keep bounds what an accident can leave behind: no session lasts that long.
	keep = 24 * time.Hour
	// keepOver is how long a repeated Start finds the dialogue that has ended.
	keepOver = time.Minute
)

// Store keeps cursors in Redis, those of a partition in one slot.
type Store struct{ rdb redis.UniversalClient }

// NewStore returns the store in rdb.
func NewStore(rdb redis.UniversalClient) *Store { return &Store{rdb: rdb} }

// saved is the part of a cursor that every save replaces.
type saved struct {
	State    cycle.State `json:"state"`
	Sequence uint64      `json:"sequence"`
}

func place(participant string) (p int, key string, err error) {
	id, err := partition.ParseID(participant)
	if err != nil {
		return 0, "", err
	}
	p = partition.Of(id)
	return p, dialogueKey(p, id), nil
}

func dialogueKey(p int, id uuid.UUID) string {
	return "cm:" + partition.Slot(p) + ":dialogue:" + id.String()
}

func ownersKey(p int) string { return "cm:" + partition.Slot(p) + ":dialogue-owners" }

func indexKey(p int, owner string) string {
	return "cm:" + partition.Slot(p) + ":dialogues:" + owner
}

// Begin stores a fresh dialogue under its owner and returns it with its epoch. A
// dialogue of the same grant is returned as it stands, with fresh false; one of
// an older grant is replaced.
func (s *Store) Begin(ctx context.Context, c Cursor) (now Cursor, fresh bool, err error) {
	p, key, err := place(c.Dialogue.Participant)
	if err != nil {
		return Cursor{}, false, err
	}
	dialogue, state, err := encode(c)
	if err != nil {
		return Cursor{}, false, err
	}
	// A cluster wants every key named: the index of a former owner is known only
	// after reading, and may change between the two.
	for range 5 {
		former, err := s.rdb.HGet(ctx, key, "owner").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return Cursor{}, false, fmt.Errorf("cursor: begin: %w", err)
		}
		reply, err := beginScript.Run(ctx, s.rdb,
			[]string{key, ownersKey(p), indexKey(p, c.Owner), indexKey(p, former)},
			c.Owner, c.Address, c.Dialogue.Grant, dialogue, state, former, keep.Milliseconds(), c.Dialogue.Participant,
		).Result()
		if err != nil {
			return Cursor{}, false, fmt.Errorf("cursor: begin: %w", err)
		}
		switch reply := reply.(type) {
		case int64:
			c.Epoch = reply
			return c, true, nil
		case []any:
			now, err := decode(reply)
			return now, false, err
		case string:
			if reply == "grant" {
				return Cursor{}, false, ErrGrant
			}
		}
	}
	return Cursor{}, false, errors.New("cursor: begin: the owner keeps changing")
}

// Load returns a dialogue, or ErrNone.
func (s *Store) Load(ctx context.Context, participant string) (Cursor, error) {
	_, key, err := place(participant)
	if err != nil {
		return Cursor{}, ErrNone // what is no id names no dialogue
	}
	reply, err := s.rdb.HMGet(ctx, key, fields...).Result()
	if err != nil {
		return Cursor{}, fmt.Errorf("cursor: load: %w", err)
	}
	if reply[0] == nil {
		return Cursor{}, ErrNone
	}
	return decode(reply)
}

// Save writes the state under the cursor's epoch. ErrEpoch says that the dialogue
// is another owner's, ErrNone that it has ended.
func (s *Store) Save(ctx context.Context, c Cursor) error {
	p, key, err := place(c.Dialogue.Participant)
	if err != nil {
		return err
	}
	dialogue, state, err := encode(c)
	if err != nil {
		return err
	}
	return s.fenced(saveScript.Run(ctx, s.rdb, []string{key, ownersKey(p), indexKey(p, c.Owner)},
		c.Epoch, state, keep.Milliseconds(), c.Owner, c.Address, c.Dialogue.Grant, dialogue, c.Dialogue.Participant).Int())
}

// End marks the dialogue as over.
func (s *Store) End(ctx context.Context, c Cursor) error {
	p, key, err := place(c.Dialogue.Participant)
	if err != nil {
		return err
	}
	return s.fenced(endScript.Run(ctx, s.rdb, []string{key, ownersKey(p), indexKey(p, c.Owner)},
		c.Epoch, c.Owner, c.Dialogue.Participant, keepOver.Milliseconds()).Int())
}

// Claim makes owner the owner of a dialogue that was former's, and returns where
// it stands. ErrEpoch: somebody else was first.
func (s *Store) Claim(ctx context.Context, participant, former, owner, address string) (Cursor, error) {
	p, key, err := place(participant)
	if err != nil {
		return Cursor{}, err
	}
	reply, err := claimScript.Run(ctx, s.rdb, []string{key, ownersKey(p), indexKey(p, owner), indexKey(p, former)},
		owner, address, former, participant).Result()
	if err != nil {
		return Cursor{}, fmt.Errorf("cursor: claim: %w", err)
	}
	switch reply := reply.(type) {
	case []any:
		return decode(reply)
	case string:
		if reply == "owner" {
			return Cursor{}, ErrEpoch
		}
	}
	return Cursor{}, ErrNone
}

// Owned are the dialogues of one owner in one partition.
type Owned struct {
	Partition int
	Owner     string
}

// Owners returns who owns dialogues, partition by partition.
func (s *Store) Owners(ctx context.Context) ([]Owned, error) {
	pipe := s.rdb.Pipeline()
	replies := make([]*redis.StringSliceCmd, partition.Count)
	for p := range replies {
		replies[p] = pipe.SMembers(ctx, ownersKey(p))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("cursor: owners: %w", err)
	}
	var all []Owned
	for p, reply := range replies {
		for _, owner := range reply.Val() {
			all = append(all, Owned{Partition: p, Owner: owner})
		}
	}
	return all, nil
}

// List returns some of the participants in one owner's index; claiming them
// takes them out of it.
func (s *Store) List(ctx context.Context, o Owned, most int64) ([]string, error) {
	found, err := s.rdb.SRandMemberN(ctx, indexKey(o.Partition, o.Owner), most).Result()
	if err != nil {
		return nil, fmt.Errorf("cursor: list: %w", err)
	}
	return found, nil
}

func (s *Store) fenced(reply int, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("cursor: %w", err)
	case reply == 0:
		return ErrNone
	case reply < 0:
		return ErrEpoch
	}
	return nil
}

func encode(c Cursor) (dialogue, state []byte, err error) {
	if dialogue, err = json.Marshal(c.Dialogue); err != nil {
		return nil, nil, fmt.Errorf("cursor: %w", err)
	}
	if state, err = json.Marshal(saved{State: c.State, Sequence: c.Sequence}); err != nil {
		return nil, nil, fmt.Errorf("cursor: %w", err)
	}
	return dialogue, state, nil
}
