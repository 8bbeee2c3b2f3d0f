-- Purpose: removes completed jobs whose retention is over, and notes once a minute how
-- far the counters are.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most
--
-- Returns  now, how many were removed
--
-- Differs from Asynq:
-- * the number is an argument;
-- * Q:x:minutes has for each of the last minutes what was processed and failed until it
--   began, as far as a worker was there, and how many jobs were pending. It goes two hours
--   after the last worker.

local COMPLETED = Q .. 'completed'
local ids = redis.call('ZRANGEBYSCORE', COMPLETED, '-inf', whole(now_s), 'LIMIT', 0,
  tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  redis.call('DEL', Q .. 't:' .. id)
  redis.call('ZREM', COMPLETED, id)
end

local MINUTES = Q .. 'x:minutes'
local minute = math.floor(now_s / 60)
local field = whole(minute % 90)
-- A queue that was removed stays so.
local lives = redis.call('EXISTS', Q .. 'processed', KEYS[1]) > 0
local known = lives and redis.pcall('HGET', MINUTES, field)
local prefix = whole(minute) .. ' '
if lives and known == false or type(known) == 'string' and string.sub(known, 1, #prefix) ~= prefix then
  local function counter(name)
    local value = redis.pcall('GET', Q .. name)
    return type(value) == 'string' and string.match(value, '^%d+$') or '0'
  end
  local waiting = redis.pcall('LLEN', KEYS[1])
  -- A full server refuses it, which is no reason not to make room.
  redis.pcall('HSET', MINUTES, field, prefix .. counter('processed') .. ' ' .. counter('failed')
    .. ' ' .. (type(waiting) == 'number' and waiting or 0))
  redis.pcall('EXPIRE', MINUTES, 7200)
end
return {now, #ids}
