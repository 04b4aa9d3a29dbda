-- Milliseconds since 1970 by the server's clock, so that instances need not agree.
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Appends entries to their lanes, each dedupe key once.
--   seen, due: keys   now: clock()   lanes: one key per entry, from KEYS[k]
--   arguments from ARGV[a], four per entry: member of due, dedupe key, entry, cap
-- Returns one result per entry: 0 duplicate, 1 queued, 2 dropped.
local function append(seen, due, seenFor, now, k, a, count)
  local results = {}
  for i = 0, count - 1 do
    local lane = KEYS[k + i]
    local member, dedupe, entry = ARGV[a + 4 * i], ARGV[a + 4 * i + 1], ARGV[a + 4 * i + 2]
    local cap = tonumber(ARGV[a + 4 * i + 3])
    local at = redis.call('HMGET', lane, 'head', 'tail')
    local head, tail = tonumber(at[1] or 0), tonumber(at[2] or 0)
    if redis.call('SISMEMBER', seen, dedupe) == 1 then
      results[#results + 1] = 0
    elseif cap > 0 and tail - head >= cap then
      results[#results + 1] = 2
    else
      redis.call('SADD', seen, dedupe)
      if tail == head then
        -- An emptied lane is deleted. Numbers that start from the clock never
        -- repeat when it comes back, which those who wait for a number rely on.
        if head == 0 then head = now * 1000 end
        tail = head
        redis.call('HSET', lane, 'head', string.format('%.0f', head), 'tries', 0)
        redis.call('ZADD', due, string.format('%.0f', now), member)
      end
      tail = tail + 1
      redis.call('HSET', lane, 'tail', string.format('%.0f', tail),
        string.format('e%.0f', tail), string.format('%.0f ', now) .. entry)
      results[#results + 1] = 1
    end
  end
  if count > 0 then
    -- The tombstone of an archived session: EndedFor.
    if redis.call('SISMEMBER', seen, '') == 1 then seenFor = 3600000 end
    redis.call('PEXPIRE', seen, seenFor)
  end
  return results
end
