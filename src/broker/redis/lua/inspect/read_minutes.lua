-- Purpose: how far the counters of a queue were in the last minutes.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
--
-- Returns  now, processed, failed, how many jobs are pending, then what Q:x:minutes has of
--          each minute: its number since the epoch, processed, failed and pending at its
--          beginning, in one text

local function counter(name)
  return redis.call('GET', Q .. name) or '0'
end
local answer = {now, counter('processed'), counter('failed'), redis.call('LLEN', KEYS[1])}
for _, value in ipairs(redis.call('HVALS', Q .. 'x:minutes')) do answer[#answer + 1] = value end
return answer
