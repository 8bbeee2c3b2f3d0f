-- Purpose: tells when the next job of each queue is due. Cheaper than forward_due.lua if
-- there are many queues; tests/it/twins.rs holds the two consistent.
--
-- KEYS[n]  Q:pending of each queue
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
--
-- Returns  now, then per queue the microseconds until its next job is due. 0 if one is due
--          or the queue's keys are damaged, -1 if no job waits
--
-- Asynq has no counterpart: it tries to forward every 5 s.

local answer = {now}
for nth = 1, #KEYS do
  local own, due = string.sub(KEYS[nth], 1, -8), nil
  for name, unit in pairs({['x:due'] = 1, scheduled = SECOND, retry = SECOND}) do
    local first = redis.pcall('ZRANGE', own .. name, '0', '0', 'WITHSCORES')
    -- A damaged key counts as due, so that forward_due.lua reports the error.
    local at = first.err and 0 or first[2] and tonumber(first[2]) * unit
    if at and (not due or at < due) then due = at end
  end
  answer[nth + 1] = due and math.max(0, math.min(due, LATEST * SECOND) - now) or -1
end
return answer
