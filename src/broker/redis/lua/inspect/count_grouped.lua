-- Purpose: counts the jobs in a page of a queue's groups.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  cursor of the previous answer, 0 at first
--
-- Returns  now, number of jobs in about 1000 groups, next cursor (0 at the end), number of
--          groups in this page, number of all groups

local some = redis.call('SSCAN', Q .. 'groups', ARGV[2], 'COUNT', 1000)
local jobs = 0
for _, group in ipairs(some[2]) do jobs = jobs + redis.call('ZCARD', Q .. 'g:' .. group) end
return {now, jobs, some[1], #some[2], redis.call('SCARD', Q .. 'groups')}
