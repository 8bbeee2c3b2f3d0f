-- Purpose: how many jobs wait in some of a queue's groups.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  where to go on: 0, or the cursor of the answer before
--
-- Returns  now, jobs in about 1000 groups, cursor (0 at the end), how many groups these
--          were and how many there are

local some = redis.call('SSCAN', Q .. 'groups', ARGV[2], 'COUNT', 1000)
local jobs = 0
for _, group in ipairs(some[2]) do jobs = jobs + redis.call('ZCARD', Q .. 'g:' .. group) end
return {now, jobs, some[1], #some[2], redis.call('SCARD', Q .. 'groups')}
