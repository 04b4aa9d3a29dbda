package store

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/partition"
	"github.com/callmesh/callmesh/sessiond/internal/lane"
)

// LiveRow is a session's entry in the list of live sessions.
type LiveRow struct {
	ID  uuid.UUID
	Row []byte
}

// batch is how many partitions are asked at a time: few enough for the memory,
// many enough that a list costs eight round trips.
const batch = 8

// LiveRows yields the live sessions of a domain, those that ended and are not yet
// archived among them, in no order. It ends with the first error.
func (s *Store) LiveRows(ctx context.Context, domain string) iter.Seq2[LiveRow, error] {
	return func(yield func(LiveRow, error) bool) {
		for from := 0; from < partition.Count; from += batch {
			var replies [batch]*redis.MapStringStringCmd
			_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for i := range replies {
					replies[i] = pipe.HGetAll(ctx, rowsKey(from+i, domain))
				}
				return nil
			})
			if err != nil {
				yield(LiveRow{}, fmt.Errorf("list the live sessions of %s: %w", domain, classify(ctx, err)))
				return
			}
			for _, reply := range replies {
				for token, row := range reply.Val() {
					id, err := partition.ParseID(token)
					if err != nil {
						err = fmt.Errorf("list the live sessions of %s: %w", domain, err)
					}
					if !yield(LiveRow{ID: id, Row: []byte(row)}, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// page is how many sessions of an owner are read at a time.
const page = 256

// OwnedBy yields the live sessions of an owner, for the one who takes over from
// it or ends them. Sessions that are claimed meanwhile may or may not appear.
func (s *Store) OwnedBy(ctx context.Context, owner string) iter.Seq2[uuid.UUID, error] {
	return func(yield func(uuid.UUID, error) bool) {
		prefix := owner + "/"
		for p := range partition.Count {
			from := "[" + prefix
			for {
				members, err := s.rdb.ZRangeByLex(ctx, ownedKey(p), &redis.ZRangeBy{
					Min: from, Max: "(" + owner + "0", // '0' follows '/'
					Count: page,
				}).Result()
				if err != nil {
					yield(uuid.Nil, fmt.Errorf("list the sessions of %s: %w", owner, classify(ctx, err)))
					return
				}
				for _, m := range members {
					id, err := partition.ParseID(strings.TrimPrefix(m, prefix))
					if err != nil {
						err = fmt.Errorf("list the sessions of %s: %w", owner, err)
					}
					if !yield(id, err) || err != nil {
						return
					}
				}
				if len(members) < page {
					break
				}
				from = "(" + members[len(members)-1]
			}
		}
	}
}

// Owners returns every instance that owns a live session, dead ones included:
// the registry forgets the dead, their sessions do not.
func (s *Store) Owners(ctx context.Context) ([]string, error) {
	seen := map[string]bool{}
	var owners []string
	for p := range partition.Count {
		from := "-"
		for {
			// Hop from one owner to the next, past all sessions of each.
			first, err := s.rdb.ZRangeByLex(ctx, ownedKey(p), &redis.ZRangeBy{Min: from, Max: "+", Count: 1}).Result()
			if err != nil {
				return nil, fmt.Errorf("list owners: %w", classify(ctx, err))
			}
			if len(first) == 0 {
				break
			}
			owner := first[0][:strings.LastIndexByte(first[0], '/')]
			if !seen[owner] {
				seen[owner] = true
				owners = append(owners, owner)
			}
			from = "[" + owner + "0"
		}
	}
	return owners, nil
}

// ToArchive returns up to limit sessions of a partition that have ended and wait
// for the archive, the longest waiting first, with the records to be archived.
func (s *Store) ToArchive(ctx context.Context, p, limit int) ([]Stored, error) {
	tokens, err := s.rdb.ZRange(ctx, archiveKey(p), 0, int64(limit)-1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the archive queue of partition %d: %w", p, classify(ctx, err))
	}
	if len(tokens) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(tokens))
	replies := make([]*redis.SliceCmd, len(tokens))
	_, err = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, token := range tokens {
			id, err := partition.ParseID(token)
			if err != nil {
				return err
			}
			ids[i] = id
			replies[i] = pipe.HMGet(ctx, sessionKey(id), "rec", "dom", "owner", "epoch", "ver")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the archive queue of partition %d: %w", p, classify(ctx, err))
	}
	var ended []Stored
	for i, reply := range replies {
		st, err := decode(ids[i], reply.Val())
		if err != nil {
			// Queued without a record: only a Redis that lost writes leaves that.
			st = Stored{ID: ids[i]}
		}
		ended = append(ended, st)
	}
	return ended, nil
}

// archivedScript forgets a session that the archive has, unless it was written
// again since: then it stays queued.
// KEYS: session, rows, owned, archive, seen
// ARGV: token, version, ms to keep the record, ms to know of its end, tombstone
var archivedScript = redis.NewScript(`
local is = redis.call('HMGET', KEYS[1], 'ver', 'owner')
if is[1] then
  if is[1] ~= ARGV[2] then return 0 end
  redis.call('ZREM', KEYS[3], is[2] .. '/' .. ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('SADD', KEYS[5], ARGV[5])
redis.call('PEXPIRE', KEYS[5], ARGV[4])
return 1`)

// Archived takes a session off the list of live ones once the archive has
// committed the version given, and has its record expire. It returns false where
// the session was written meanwhile, and has to be archived once more.
func (s *Store) Archived(ctx context.Context, id uuid.UUID, domain string, version uint64) (bool, error) {
	p := partition.Of(id)
	n, err := archivedScript.Run(ctx, s.rdb, []string{sessionKey(id), rowsKey(p, domain), ownedKey(p), archiveKey(p), lane.SeenKey(id)},
		partition.Token(id), version, s.o.KeepEnded.Milliseconds(), lane.EndedFor.Milliseconds(), lane.Tombstone).Int()
	if err != nil {
		return false, fmt.Errorf("forget archived session %s: %w", id, classify(ctx, err))
	}
	return n == 1, nil
}
