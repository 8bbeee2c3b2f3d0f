-- Purpose: the counters of the last days.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many days
--
-- Returns  now, then per UTC day, today first, three values: date, processed,
--          failed (as text)

local answer = {now}
for ago = 0, tonumber(ARGV[2]) - 1 do
  local day = utc_day(now_s - ago * 86400)
  answer[#answer + 1] = day
  answer[#answer + 1] = redis.call('GET', Q .. 'processed:' .. day) or '0'
  answer[#answer + 1] = redis.call('GET', Q .. 'failed:' .. day) or '0'
end
return answer
