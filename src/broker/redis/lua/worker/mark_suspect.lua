-- Purpose: notes that a suspect, a job whose worker vanished twice or more, is about to
-- start. If its worker vanishes again, the job is the cause.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…4] id, owner, end of the lease as the caller knows it
--
-- Returns  now, 1 if it was noted or 0 if the job is not the owner's any more
--
-- Asynq has nothing like it. x_started holds the owner, hence says nothing about any
-- later delivery of the job.

local id, owner = ARGV[2], ARGV[3]
expect_lists('active')
expect_zsets('lease')
local task = redis.call('HMGET', Q .. 't:' .. id, 'msg', 'state', 'x_owner')
if not task[1] or not held(id, owner, tonumber(ARGV[4]), task[2], task[3]) then return {now, 0} end
-- Work must go on also where memory is full.
before_growth()
redis.call('HSET', Q .. 't:' .. id, 'x_started', owner)
return {now, 1}
