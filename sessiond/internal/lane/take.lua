-- Takes the head of a lane for one attempt, if it is due.
-- Follows append.lua.
-- KEYS: lane, due, fence   ARGV: member, ms for which the lane is ours
-- Returns {} for an empty lane, {ms} for one that is due in ms,
-- {0, fence, tries, age in ms, entry} for an attempt.
local function take(lane, due, fences, member, hold, now)
  local score = tonumber(redis.call('ZSCORE', due, member) or nil)
  if not score then return {} end
  if score > now then return {score - now} end
  local head = tonumber(redis.call('HGET', lane, 'head') or 0)
  local stored = redis.call('HGET', lane, string.format('e%.0f', head + 1))
  if not stored then
    redis.call('ZREM', due, member)
    return {}
  end
  local fence = redis.call('INCR', fences)
  local tries = redis.call('HINCRBY', lane, 'tries', 1)
  redis.call('HSET', lane, 'fence', fence)
  redis.call('ZADD', due, string.format('%.0f', now + hold), member)
  local blank = string.find(stored, ' ', 1, true)
  return {0, fence, tries, now - tonumber(string.sub(stored, 1, blank - 1)), string.sub(stored, blank + 1)}
end
