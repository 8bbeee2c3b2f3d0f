-- Purpose: tells when the next job of each queue is due, which is cheaper than to try
-- to forward some where there are many queues.
--
-- KEYS[n]  Q:pending of each queue
-- ARGV[1]  now
--
-- Returns  now, then per queue how many microseconds that takes, 0 where one is due or
--          the queue's data is not as it should be, and -1 where no job waits

local answer = {now}
for nth = 1, #KEYS do
  local own, due = string.sub(KEYS[nth], 1, -8), nil
  for name, unit in pairs({['x:due'] = 1, scheduled = SECOND, retry = SECOND}) do
    local first = redis.pcall('ZRANGE', own .. name, '0', '0', 'WITHSCORES')
    -- An error looks as if it had been due for ever.
    local at = first.err and 0 or first[2] and tonumber(first[2]) * unit
    if at and (not due or at < due) then due = at end
  end
  answer[nth + 1] = due and math.max(0, math.min(due, LATEST * SECOND) - now) or -1
end
return answer
