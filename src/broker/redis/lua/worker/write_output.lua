-- Purpose: writes what a running job says of itself, if it is still the owner's.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…4] id, owner, end of the lease as the caller knows it
-- ARGV[5]  result | x_progress
-- ARGV[6]  its value
--
-- Returns  now, 1 if it was written or 0 if the job is not the owner's any more
--
-- Differs from Asynq, whose result is written whoever has the job, and makes a hash
-- that blocks the id where there is none.

local id = ARGV[2]
expect_lists('active')
expect_zsets('lease')
local task = redis.call('HMGET', Q .. 't:' .. id, 'msg', 'state', 'x_owner')
if not task[1] or not held(id, ARGV[3], tonumber(ARGV[4]), task[2], task[3])
  and not reclaimed(id, ARGV[3], task[2]) then
  return {now, 0}
end
redis.call('HSET', Q .. 't:' .. id, ARGV[5], ARGV[6])
return {now, 1}
