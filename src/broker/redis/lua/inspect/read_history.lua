-- Purpose: reads the daily counters of a queue.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  number of days
--
-- Returns  now, then three values per UTC day, today first: date, processed, failed (as text)

local answer = {now}
for ago = 0, tonumber(ARGV[2]) - 1 do
  local day = utc_day(now_s - ago * 86400)
  answer[#answer + 1] = day
  answer[#answer + 1] = redis.call('GET', Q .. 'processed:' .. day) or '0'
  answer[#answer + 1] = redis.call('GET', Q .. 'failed:' .. day) or '0'
end
return answer
