package cursor

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// fields is the order in which scripts and Load return a cursor.
var fields = []string{"owner", "address", "epoch", "dialogue", "state", "over"}

// All keys of a script are of one partition. An index that becomes empty takes
// its owner out of the list of owners.
var (
	// KEYS dialogue, owners, index of the owner, index of the former owner.
	// ARGV owner, address, grant, dialogue, state, former owner, ttl, participant.
	beginScript = redis.NewScript(`
local was = redis.call('HMGET', KEYS[1], 'owner', 'address', 'epoch', 'dialogue', 'state', 'over', 'grant')
local epoch = 1
if was[1] then
  if was[1] ~= ARGV[6] then return 'again' end
  -- Grants are compared as decimal text of equal length: Lua's numbers are floats.
  local old, new = was[7], ARGV[3]
  if old == new then return {was[1], was[2], was[3], was[4], was[5], was[6]} end
  if #old > #new or (#old == #new and old > new) then return 'grant' end
  epoch = was[3] + 1
  redis.call('SREM', KEYS[4], ARGV[8])
  if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('SREM', KEYS[2], was[1]) end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'address', ARGV[2], 'grant', ARGV[3], 'dialogue', ARGV[4],
  'state', ARGV[5], 'epoch', epoch, 'over', 0)
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('SADD', KEYS[3], ARGV[8])
redis.call('SADD', KEYS[2], ARGV[1])
return epoch`)

	// KEYS dialogue, owners, index of the owner.
	// ARGV epoch, state, ttl, owner, address, grant, dialogue, participant.
	// What the store has lost, as a failover may, the owner puts back.
	saveScript = redis.NewScript(`
local was = redis.call('HMGET', KEYS[1], 'epoch', 'over')
if was[2] == '1' then return 0 end
if was[1] and was[1] ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[1], 'state', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if was[1] then return 1 end
redis.call('HSET', KEYS[1], 'owner', ARGV[4], 'address', ARGV[5], 'grant', ARGV[6], 'dialogue', ARGV[7],
  'epoch', ARGV[1], 'over', 0)
redis.call('SADD', KEYS[3], ARGV[8])
redis.call('SADD', KEYS[2], ARGV[4])
return 1`)

	// KEYS dialogue, owners, index of the owner. ARGV epoch, owner, participant, ttl.
	endScript = redis.NewScript(`
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch and epoch ~= ARGV[1] then return -1 end
redis.call('SREM', KEYS[3], ARGV[3])
if redis.call('EXISTS', KEYS[3]) == 0 then redis.call('SREM', KEYS[2], ARGV[2]) end
if not epoch then return 0 end
redis.call('HSET', KEYS[1], 'over', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1`)

	// KEYS dialogue, owners, index of the owner, index of the former owner.
	// ARGV owner, address, former owner, participant.
	claimScript = redis.NewScript(`
local was = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'over')
redis.call('SREM', KEYS[4], ARGV[4])
if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('SREM', KEYS[2], ARGV[3]) end
if was[1] and was[1] ~= ARGV[3] then return 'owner' end
if not was[1] or was[3] == '1' then return 'none' end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'address', ARGV[2], 'epoch', was[2] + 1)
redis.call('SADD', KEYS[3], ARGV[4])
redis.call('SADD', KEYS[2], ARGV[1])
return redis.call('HMGET', KEYS[1], 'owner', 'address', 'epoch', 'dialogue', 'state', 'over')`)
)

func decode(reply []any) (Cursor, error) {
	text := make([]string, len(fields))
	for i := range text {
		if i < len(reply) {
			text[i], _ = reply[i].(string)
		}
	}
	c := Cursor{Owner: text[0], Address: text[1], Over: text[5] == "1"}
	epoch, err := strconv.ParseInt(text[2], 10, 64)
	if err != nil {
		return Cursor{}, fmt.Errorf("cursor: epoch: %w", err)
	}
	c.Epoch = epoch
	if err := json.Unmarshal([]byte(text[3]), &c.Dialogue); err != nil {
		return Cursor{}, fmt.Errorf("cursor: dialogue: %w", err)
	}
	var s saved
	if err := json.Unmarshal([]byte(text[4]), &s); err != nil {
		return Cursor{}, fmt.Errorf("cursor: state: %w", err)
	}
	c.State, c.Sequence = s.State, s.Sequence
	return c, nil
}
