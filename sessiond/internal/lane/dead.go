package lane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/callmesh/callmesh/kit/fault"
	"github.com/callmesh/callmesh/kit/partition"
)

// DeadLetter is a notification that was given up and is kept for somebody to
// replay it.
type DeadLetter struct {
	// ID names the letter within its session's partition.
	ID       string        `json:"id"`
	Entry    Entry         `json:"entry"`
	Attempts int           `json:"attempts"`
	Age      time.Duration `json:"age"`
	// Reason is the last attempt's error.
	Reason string    `json:"reason"`
	Died   time.Time `json:"died"`
}

func newDeadLetter(t Delivery, err error) (text, id string, _ error) {
	id = t.Ref().Member() + "/" + t.ID
	b, marshalErr := json.Marshal(DeadLetter{
		ID: id, Entry: t.Entry, Attempts: t.Attempt, Age: t.Age, Reason: err.Error(), Died: time.Now().UTC(),
	})
	return string(b), id, marshalErr
}

// Dead yields the dead letters of a domain, or of all with "", by partition and
// within it the oldest first. It ends with the first error.
func (d *Deliverer) Dead(ctx context.Context, domain string) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		for p := range partition.Count {
			// A page at a time; a letter that is removed meanwhile may hide another.
			for from := int64(0); ; from += deadPageSize {
				letters, err := d.deadPage(ctx, p, from)
				if err != nil {
					yield(DeadLetter{}, err)
					return
				}
				for _, l := range letters {
					if (domain == "" || l.Entry.Domain == domain) && !yield(l, nil) {
						return
					}
				}
				if len(letters) < deadPageSize {
					break
				}
			}
		}
	}
}

const deadPageSize = 256

func (d *Deliverer) deadPage(ctx context.Context, p int, from int64) ([]DeadLetter, error) {
	ids, err := d.rdb.ZRange(ctx, deadKey(p), from, from+deadPageSize-1).Result()
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	texts, err := d.rdb.HMGet(ctx, deadBodyKey(p), ids...).Result()
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	letters := make([]DeadLetter, 0, len(texts))
	for i, v := range texts {
		l := DeadLetter{ID: ids[i]} // removed meanwhile: shown empty rather than the page cut short
		if text, ok := v.(string); ok {
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				return nil, fmt.Errorf("dead letter %s: %w", ids[i], err)
			}
		}
		letters = append(letters, l)
	}
	return letters, nil
}

// replayScript moves a dead letter back into its lane. Follows append.lua.
// KEYS: dead, letters, due, seen, lane   ARGV: id, seenFor, then the entry's
var replayScript = redis.NewScript(AppendLua + `
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return -1 end
redis.call('ZREM', KEYS[1], ARGV[1])
return append(KEYS[4], KEYS[3], ARGV[2], clock(), 5, 3, 1)[1]`)

// Replay queues a dead letter anew at the end of its lane, under its old id. It
// fails with BAD_REQUEST where there is no such letter.
func (d *Deliverer) Replay(ctx context.Context, id string) error {
	ref, err := parseLetterID(id)
	if err != nil {
		return err
	}
	p := partition.Of(ref.Session)
	text, err := d.rdb.HGet(ctx, deadBodyKey(p), id).Result()
	if errors.Is(err, redis.Nil) {
		return noLetter(id)
	}
	if err != nil {
		return fmt.Errorf("replay a dead letter: %w", err)
	}
	var l DeadLetter
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return fmt.Errorf("replay a dead letter: %w", err)
	}
	keys, args, err := AppendArgs(ref.Session, []Entry{l.Entry})
	if err != nil {
		return err
	}
	// Its dedupe key was seen long ago: each death allows one life more.
	args[1] = fmt.Sprintf("replay %s %d", id, l.Died.UnixNano())
	n, err := replayScript.Run(ctx, d.rdb, append([]string{deadKey(p), deadBodyKey(p), DueKey(p), SeenKey(ref.Session)}, keys...),
		append([]any{id, SeenFor.Milliseconds()}, args...)...).Int()
	if err != nil {
		return fmt.Errorf("replay a dead letter: %w", err)
	}
	if n < 0 {
		return noLetter(id)
	}
	d.Kick(ref)
	return nil
}

// Discard deletes a dead letter.
func (d *Deliverer) Discard(ctx context.Context, id string) error {
	ref, err := parseLetterID(id)
	if err != nil {
		return err
	}
	p := partition.Of(ref.Session)
	var gone *redis.IntCmd
	_, err = d.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ZRem(ctx, deadKey(p), id)
		gone = pipe.HDel(ctx, deadBodyKey(p), id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("discard a dead letter: %w", err)
	}
	if gone.Val() == 0 {
		return noLetter(id)
	}
	return nil
}

func noLetter(id string) error { return fault.New(fault.BadRequest, "no dead letter %q", id).On("id") }

// parseLetterID takes "token/target/entry" apart.
func parseLetterID(id string) (Ref, error) {
	ref, err := parseMember(id)
	if err != nil {
		return Ref{}, noLetter(id)
	}
	for i := range ref.Target {
		if ref.Target[i] == '/' {
			ref.Target = ref.Target[:i]
			return ref, nil
		}
	}
	return Ref{}, noLetter(id)
}
