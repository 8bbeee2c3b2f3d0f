-- Purpose: reads the sizes and counters of one queue.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
--
-- Returns  now; number of jobs pending, active, scheduled, retry, archived, completed; number
--          of groups; pending_since of the next pending job or empty; 1 if the queue is
--          paused; value of Q:paused or empty; counters processed, failed, processed today,
--          failed today; microsecond at which the next scheduled or retried job is due, or
--          -1; jobs archived within the last hour. Counters are text because they may exceed a double
--
-- Differs from Asynq: no memory figures, see estimate_memory.lua. count_grouped.lua counts
-- the jobs in groups page by page, so that many groups cannot block the server.

local function counter(name)
  return redis.call('GET', Q .. name) or '0'
end
local next_id = redis.call('LINDEX', KEYS[1], -1)
local since = next_id and redis.pcall('HGET', Q .. 't:' .. next_id, 'pending_since')
local paused = redis.pcall('GET', Q .. 'paused')
local day = utc_day(now_s)
-- The exact time of the first entry in Q:x:due. It belongs to the first job here unless a job
-- of a Go producer is due in the same second.
local due = -1
local exact = tonumber(redis.call('ZRANGE', Q .. 'x:due', 0, 0, 'WITHSCORES')[2])
for _, state in ipairs({'scheduled', 'retry'}) do
  local score = tonumber(redis.call('ZRANGE', Q .. state, 0, 0, 'WITHSCORES')[2])
  if score then
    local at = bounded(score * SECOND)
    if exact and shown(exact) == score then at = exact end
    if due < 0 or at < due then due = at end
  end
end
return {
  now,
  redis.call('LLEN', KEYS[1]), redis.call('LLEN', Q .. 'active'),
  redis.call('ZCARD', Q .. 'scheduled'), redis.call('ZCARD', Q .. 'retry'),
  redis.call('ZCARD', Q .. 'archived'), redis.call('ZCARD', Q .. 'completed'),
  redis.call('SCARD', Q .. 'groups'),
  type(since) == 'string' and since or '',
  redis.call('EXISTS', Q .. 'paused'), type(paused) == 'string' and paused or '',
  counter('processed'), counter('failed'),
  counter('processed:' .. day), counter('failed:' .. day),
  due,
  redis.call('ZCOUNT', Q .. 'archived', whole(now_s - 3600), '+inf'),
}
