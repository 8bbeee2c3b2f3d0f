-- Purpose: writes the result or the progress of a running job, if the caller still owns it.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  id
-- ARGV[3]  owner
-- ARGV[4]  end of the lease in microseconds, as the caller knows it
-- ARGV[5]  field: result | x_progress
-- ARGV[6]  its value
--
-- Returns  now, 1 if it was written, 0 if the job is not the caller's any more
--
-- Differs from Asynq, which writes the result without a test: the hash of a deleted job
-- would come back with nothing but a result, and block its id.

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
