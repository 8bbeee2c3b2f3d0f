-- Purpose: how many groups a queue has, and how many jobs wait in some of them.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  where to go on: 0, or the cursor of the answer before
--
-- Returns  now, number of groups, jobs in about 1000 of them, cursor (0 at the end)

local groups = redis.call('SCARD', Q .. 'groups')
if groups == 0 then return {now, 0, 0, '0'} end
local some = redis.call('SSCAN', Q .. 'groups', ARGV[2], 'COUNT', 1000)
local jobs = 0
for _, group in ipairs(some[2]) do jobs = jobs + redis.call('ZCARD', Q .. 'g:' .. group) end
return {now, groups, jobs, some[1]}
