package store

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// appendLua queues entries, fenced by the epoch where one is given.
// KEYS: session, due, seen, lanes   ARGV: owner, epoch or 0, seenFor, count, entries
const appendLua = `
if ARGV[2] ~= '0' then
  local is = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
  if not is[1] then return {-3} end
  if is[1] ~= ARGV[1] or is[2] ~= ARGV[2] then return {-2} end
end
local reply = append(KEYS[3], KEYS[2], ARGV[3], clock(), 4, 5, tonumber(ARGV[4]))
table.insert(reply, 1, 0)
return reply`

// claimLua changes the owner. The version stays: the record is the same.
// KEYS: session, owned   ARGV: token, new owner, owner and epoch as known
const claimLua = `
local is = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if not is[1] then return -3 end
if is[1] ~= ARGV[3] or is[2] ~= ARGV[4] then return -2 end
local epoch = tonumber(is[2]) + 1
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'epoch', string.format('%.0f', epoch))
if redis.call('ZREM', KEYS[2], is[1] .. '/' .. ARGV[1]) == 1 then
  redis.call('ZADD', KEYS[2], 0, ARGV[2] .. '/' .. ARGV[1])
end
return epoch`

// Answers by which a Redis says that it cannot serve now.
var unable = []string{
	"LOADING", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "TRYAGAIN", "BUSY", "OOM", "NOREPLICAS", "MISCONF", "UNBLOCKED",
}

// classify tells a Redis that cannot be used from one that refused a command,
// which is a fault of this program, and from a caller who gave up.
func classify(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if answer, ok := errors.AsType[redis.Error](err); ok {
		for _, prefix := range unable {
			if strings.HasPrefix(answer.Error(), prefix) {
				return ErrUnavailable.Because(err)
			}
		}
		return err
	}
	return ErrUnavailable.Because(err)
}
