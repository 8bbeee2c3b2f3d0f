-- Purpose: ends the removal of a queue.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
--
-- Returns  now, 1 if it is gone, 0 if jobs have arrived meanwhile: then it is a
--          new queue with these
--
-- No part of Asynq.

local live = redis.call('EXISTS', KEYS[1], Q .. 'active', Q .. 'scheduled', Q .. 'retry',
  Q .. 'archived', Q .. 'completed', Q .. 'groups', Q .. 'aggregation_sets')
redis.call('DEL', Q .. 'x:removing')
-- The pause of these jobs is the operator's matter, except for the removal's own.
local paused = redis.pcall('GET', Q .. 'paused')
if live == 0 or type(paused) == 'string' and string.match(paused, '^0%d') then
  redis.call('DEL', Q .. 'paused')
end
if live > 0 then return {now, 0} end
redis.call('UNLINK', Q .. 'lease', Q .. 'x:due', Q .. 'x:grouped', Q .. 'x:ends', Q .. 'x:sets',
  Q .. 'x:gone', Q .. 'x:minutes', Q .. 'x:admitted')
return {now, 1}
