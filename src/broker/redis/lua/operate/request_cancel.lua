-- Purpose: asks for the end of a running job.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  id
-- ARGV[3]  retry | archive | delete
--
-- Returns  now, 1 (asked for) | 2 (it does not run) | 0 (no such job), its state
--
-- Differs from Asynq, which only sends the id on its channel: the wish is kept in
-- x_cancel, where the job's owner finds it when it extends the lease, and says what
-- is to become of the job.

local task = redis.call('HMGET', Q .. 't:' .. ARGV[2], 'msg', 'state')
if not task[1] or not task[2] then return {now, 0, ''} end
if task[2] ~= 'active' then return {now, 2, task[2]} end
-- Work that is to end must end also where memory is full.
before_growth()
redis.call('HSET', Q .. 't:' .. ARGV[2], 'x_cancel', ARGV[3])
redis.pcall('PUBLISH', 'asynq:cancel', ARGV[2])
return {now, 1, task[2]}
