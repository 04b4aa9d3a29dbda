-- Writes a session if nobody wrote or claimed it since the caller read it.
-- Follows lane/append.lua.
-- KEYS: session, rows, owned, archive, due, seen, then one lane per entry
-- ARGV: token, domain, owner, epoch, version read, record, row, its length,
--   ended, reassert, nonce, ms to keep dedupe keys, number of entries, then theirs
-- Returns the new version or a code below zero, followed by a result per entry.
local session = KEYS[1]
local token, domain, owner, epoch, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local nonce, count = ARGV[11], tonumber(ARGV[13])
local reassert = ARGV[10] == '1'

local is = redis.call('HMGET', session, 'ver', 'owner', 'epoch', 'dom', 'nonce')
if is[1] then
  if is[2] ~= owner or is[3] ~= epoch then return {-2} end
  if is[4] ~= domain then return {-4} end
  if is[5] == nonce then
    local repeated = {tonumber(is[1])}
    for i = 1, count do repeated[i + 1] = 1 end
    return repeated
  end
  if not reassert and is[1] ~= version then return {-1} end
elseif reassert then
  -- Archived meanwhile, by somebody who claimed it: it must not rise again.
  if redis.call('SISMEMBER', KEYS[6], '') == 1 then return {-2} end
elseif version ~= '0' then
  return {-3}
end

local now = clock()
local new = tonumber(version) + 1
-- The same owner has written since: a journal is replayed twice after a crash.
if is[1] and tonumber(is[1]) > new then return {-1} end
local text = string.format('%.0f', new)
redis.call('HSET', session, 'ver', text, 'owner', owner, 'epoch', epoch, 'dom', domain, 'rec', ARGV[6], 'nonce', nonce)
if not is[1] then redis.call('ZADD', KEYS[3], 0, owner .. '/' .. token) end
if ARGV[8] == '0' then
  redis.call('HDEL', KEYS[2], token)
else
  redis.call('HSET', KEYS[2], token, ARGV[7])
end
if ARGV[9] == '1' then
  -- It may have been archived before: then it must not expire before it is again.
  redis.call('PERSIST', session)
  redis.call('ZADD', KEYS[4], 'NX', string.format('%.0f', now), token)
end
local reply = append(KEYS[6], KEYS[5], ARGV[12], now, 7, 14, count)
table.insert(reply, 1, new)
return reply
