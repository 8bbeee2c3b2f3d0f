-- Purpose: deletes completed jobs whose retention is over, and once a minute records the
-- queue's counters.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of jobs to delete
--
-- Returns  now, number of deleted jobs
--
-- Order of effects as in Asynq: per job the hash, then the entry in Q:completed. Differences:
-- * the maximum is an argument, in Asynq always 100;
-- * Q:x:minutes has for each of the last 90 minutes in which a worker was there what had been
--   processed and failed when the minute began, and how many jobs were pending. It expires
--   two hours after the last worker.

local COMPLETED = Q .. 'completed'
local ids = redis.call('ZRANGEBYSCORE', COMPLETED, '-inf', whole(now_s), 'LIMIT', 0,
  tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  redis.call('DEL', Q .. 't:' .. id)
  redis.call('ZREM', COMPLETED, id)
end

local MINUTES = Q .. 'x:minutes'
local minute = math.floor(now_s / 60)
-- 90 fields, reused in a circle.
local field = whole(minute % 90)
-- A removed queue must not come back.
local lives = redis.call('EXISTS', Q .. 'processed', KEYS[1]) > 0
local known = lives and redis.pcall('HGET', MINUTES, field)
local prefix = whole(minute) .. ' '
local is_new = lives and known == false
  or type(known) == 'string' and string.sub(known, 1, #prefix) ~= prefix
if is_new then
  local function counter(name)
    local value = redis.pcall('GET', Q .. name)
    return type(value) == 'string' and string.match(value, '^%d+$') or '0'
  end
  local waiting = redis.pcall('LLEN', KEYS[1])
  -- pcall: a server whose memory is full refuses this, and deleting must go on.
  redis.pcall('HSET', MINUTES, field, prefix .. counter('processed') .. ' ' .. counter('failed')
    .. ' ' .. (type(waiting) == 'number' and waiting or 0))
  redis.pcall('EXPIRE', MINUTES, 7200)
end
return {now, #ids}
