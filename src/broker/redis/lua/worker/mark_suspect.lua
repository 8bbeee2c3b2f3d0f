-- Purpose: records that a suspect is about to start. A suspect is a job whose worker vanished
-- at least twice; if the next one vanishes too, the job is the cause.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  id
-- ARGV[3]  owner
-- ARGV[4]  end of the lease in microseconds, as the caller knows it
--
-- Returns  now, 1 if it was recorded, 0 if the job is not the caller's any more
--
-- Asynq has no counterpart. x_started holds the owner, so it says nothing about a later
-- delivery of the job.

local id, owner = ARGV[2], ARGV[3]
expect_lists('active')
expect_zsets('lease')
local task = redis.call('HMGET', Q .. 't:' .. id, 'msg', 'state', 'x_owner')
if not task[1] or not held(id, owner, tonumber(ARGV[4]), task[2], task[3]) then return {now, 0} end
-- Work goes on even if memory is full.
before_growth()
redis.call('HSET', Q .. 't:' .. id, 'x_started', owner)
return {now, 1}
