-- Purpose: ends the removal of a queue.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
--
-- Returns  now, 1 if the queue is gone, 0 if jobs arrived meanwhile: they form a new queue
--
-- Asynq has no counterpart.

local live = redis.call('EXISTS', KEYS[1], Q .. 'active', Q .. 'scheduled', Q .. 'retry',
  Q .. 'archived', Q .. 'completed', Q .. 'groups', Q .. 'aggregation_sets')
redis.call('DEL', Q .. 'x:removing')
-- The removal's own pause ends here; a pause by an operator stays for the new jobs.
local paused = redis.pcall('GET', Q .. 'paused')
if live == 0 or type(paused) == 'string' and string.match(paused, '^0%d') then
  redis.call('DEL', Q .. 'paused')
end
if live > 0 then return {now, 0} end
redis.call('UNLINK', Q .. 'lease', Q .. 'x:due', Q .. 'x:grouped', Q .. 'x:ends', Q .. 'x:sets',
  Q .. 'x:gone', Q .. 'x:minutes', Q .. 'x:start_by', Q .. 'x:held')
return {now, 1}
