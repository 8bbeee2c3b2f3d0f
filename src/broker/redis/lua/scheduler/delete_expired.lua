-- Purpose: deletes completed jobs whose retention is over, archives jobs that are pending, or wait
-- for a limit, and did not start in time, enqueues successors whose holder has ended, and once a
-- minute records the queue's counters.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of jobs to delete, and of jobs that expire; 0 to record the counters alone
--
-- Returns  now, number of deleted jobs, number of jobs that expired
--
-- Order of effects as in Asynq: per job the hash, then the entry in Q:completed. Differences:
-- * the maximum is an argument, in Asynq always 100;
-- * Asynq's jobs cannot expire. Dequeue and forward_due.lua archive those that they meet; here
--   follow those of a queue that is paused or has no worker. At most 100 are
--   looked at, each among the first and last 5,000 pending jobs; elsewhere it is looked at again
--   in a minute;
-- * Q:x:minutes has for each of the last 90 minutes in which a process of this crate was there
--   what had been processed and failed when the minute began, and how many jobs were pending. It
--   expires two hours after the last of them.

local COMPLETED = Q .. 'completed'
local ids = redis.call('ZRANGEBYSCORE', COMPLETED, '-inf', whole(now_s), 'LIMIT', 0,
  tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  redis.call('DEL', Q .. 't:' .. id)
  redis.call('ZREM', COMPLETED, id)
end

-- Q:x:start_by may name jobs that have started or are gone: a Go worker does not know it.
local LATE, PENDING, LOOKS, NEAR, AGAIN = Q .. 'x:start_by', KEYS[1], 100, 5000, 60 * SECOND
-- Whether a job waits for a limit; see lib/limits.lua.
local function waits(id)
  local held = redis.pcall('ZSCORE', Q .. 'x:held', id)
  return type(held) == 'string' and redis.pcall('ZSCORE', Q .. 'scheduled', id) == held
end

local expired = 0
local found = redis.pcall('ZRANGEBYSCORE', LATE, '-inf', whole(now), 'LIMIT', 0, LOOKS)
-- A damaged key must not stop the rest.
local sound = not found.err and found[1] and type(redis.pcall('LLEN', PENDING)) == 'number'
for _, id in ipairs(sound and found or {}) do
  if expired == tonumber(ARGV[2]) then break end
  local task = redis.pcall('HMGET', Q .. 't:' .. id, 'msg', 'state', 'x_start_by')
  local at = task[3] and tonumber(task[3])
  if not task[1] or not at then
    redis.call('ZREM', LATE, id)
  elseif at > now then
    -- The clock went back. A job with an end is always in this set: see finish_and_dequeue.lua.
    redis.call('ZADD', LATE, 'XX', whole(at), id)
  elseif not is_expired(task[3]) then
    redis.call('ZADD', LATE, 'XX', whole(now + AGAIN), id)
  elseif task[2] == 'pending' and redis.call('LPOS', PENDING, id, 'RANK', -1, 'MAXLEN', NEAR) then
    redis.call('LREM', PENDING, -1, id)
    archive_unrun(id, task[1], 'expired')
    expired = expired + 1
  elseif task[2] == 'pending' and redis.call('LPOS', PENDING, id, 'MAXLEN', NEAR) then
    redis.call('LREM', PENDING, 1, id)
    archive_unrun(id, task[1], 'expired')
    expired = expired + 1
  elseif task[2] == 'scheduled' and waits(id) then
    redis.call('ZREM', Q .. 'scheduled', id)
    stop_waiting(id)
    archive_unrun(id, task[1], 'expired')
    expired = expired + 1
  else
    redis.call('ZADD', LATE, 'XX', whole(now + AGAIN), id)
  end
end

look_after_all()

-- What brings the forwarder to the limits of this queue; see lib/limits.lua.
local first = redis.pcall('ZRANGE', Q .. 'x:lim:keys', 0, 0, 'WITHSCORES')[2]
if first then redis.pcall('ZADD', Q .. 'x:due', 'LT', first, '') end

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
  -- A fifth number says that no worker recorded it: read_standing.lua asks for those of workers.
  redis.pcall('HSET', MINUTES, field, prefix .. counter('processed') .. ' ' .. counter('failed')
    .. ' ' .. (type(waiting) == 'number' and waiting or 0) .. (ARGV[2] == '0' and ' 0' or ''))
  redis.pcall('EXPIRE', MINUTES, 7200)
end
return {now, #ids, expired}
