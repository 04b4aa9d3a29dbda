-- Ends an attempt and, unless it is to be repeated, takes the next entry.
-- Follows append.lua and take.lua.
-- KEYS: lane, due, fence, dead, dead letters
-- ARGV: member, hold in ms, fence of the attempt, verdict, delay in ms, dead letter, its id, cap on the dead
-- Returns as take does, or {-1} where the attempt was no longer ours.
local lane, due, fences, dead, letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local member, hold, fence, verdict = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
if redis.call('HGET', lane, 'fence') ~= fence then return {-1} end
local now = clock()
redis.call('HDEL', lane, 'fence')
if verdict == 'retry' then
  local delay = tonumber(ARGV[5])
  redis.call('ZADD', due, string.format('%.0f', now + delay), member)
  return {delay}
end
if verdict == 'yield' then
  redis.call('HINCRBY', lane, 'tries', -1)
  redis.call('ZADD', due, string.format('%.0f', now), member)
  return {1}
end
if verdict == 'dead' then
  local cap = tonumber(ARGV[8])
  -- In order of death: fences grow, and milliseconds may be the same.
  redis.call('ZADD', dead, fence, ARGV[7])
  redis.call('HSET', letters, ARGV[7], ARGV[6])
  for _, old in ipairs(redis.call('ZRANGE', dead, 0, -(cap + 1))) do
    redis.call('ZREM', dead, old)
    redis.call('HDEL', letters, old)
  end
end
local at = redis.call('HMGET', lane, 'head', 'tail')
local head, tail = tonumber(at[1]) + 1, tonumber(at[2])
redis.call('HDEL', lane, string.format('e%.0f', head))
if head >= tail then
  redis.call('DEL', lane)
  redis.call('ZREM', due, member)
  return {}
end
redis.call('HSET', lane, 'head', string.format('%.0f', head), 'tries', 0)
redis.call('ZADD', due, string.format('%.0f', now), member)
return take(lane, due, fences, member, hold, now)
