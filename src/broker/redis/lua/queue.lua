-- Purpose: the sizes and counters of one queue.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
--
-- Returns  now, pending, active, scheduled, retry, archived, completed, aggregating,
--          1 if paused, processed, failed, processed today, failed today (the
--          last four as text, because they may exceed a double)
--
-- Differs from Asynq: no memory figures and no latency; at most 1000 groups are
-- counted, so that the number of groups cannot block the server.

local function counter(name)
  return redis.call('GET', Q .. name) or '0'
end
local aggregating = 0
if redis.call('SCARD', Q .. 'groups') > 0 then
  for _, group in ipairs(redis.call('SSCAN', Q .. 'groups', 0, 'COUNT', 1000)[2]) do
    aggregating = aggregating + redis.call('ZCARD', Q .. 'g:' .. group)
  end
end
local day = utc_day(now_s)
return {
  now,
  redis.call('LLEN', KEYS[1]), redis.call('LLEN', Q .. 'active'),
  redis.call('ZCARD', Q .. 'scheduled'), redis.call('ZCARD', Q .. 'retry'),
  redis.call('ZCARD', Q .. 'archived'), redis.call('ZCARD', Q .. 'completed'),
  aggregating, redis.call('EXISTS', Q .. 'paused'),
  counter('processed'), counter('failed'),
  counter('processed:' .. day), counter('failed:' .. day),
}
