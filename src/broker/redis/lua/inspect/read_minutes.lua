-- Purpose: reads the counters of a queue and their recorded values of the last minutes.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
--
-- Returns  now, processed, failed, number of pending jobs, then one text per recorded minute:
--          its number since 1970, and processed, failed and pending at its beginning
--
-- Asynq has no counterpart; delete_expired.lua writes Q:x:minutes.

local function counter(name)
  return redis.call('GET', Q .. name) or '0'
end
local answer = {now, counter('processed'), counter('failed'), redis.call('LLEN', KEYS[1])}
for _, value in ipairs(redis.call('HVALS', Q .. 'x:minutes')) do answer[#answer + 1] = value end
return answer
