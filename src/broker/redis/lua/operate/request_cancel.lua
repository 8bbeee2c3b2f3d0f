-- Purpose: requests that a running job be cancelled.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  id
-- ARGV[3]  what happens to the job afterwards: retry | archive | delete
--
-- Returns  now, 1 (requested) | 2 (not active) | 0 (no such job), its state
--
-- Differs from Asynq, which only publishes the id on asynq:cancel: x_cancel keeps the
-- request with its purpose, and the owner finds it when it extends the lease.

local task = redis.call('HMGET', Q .. 't:' .. ARGV[2], 'msg', 'state')
if not task[1] or not task[2] then return {now, 0, ''} end
if task[2] ~= 'active' then return {now, 2, task[2]} end
-- A cancel request must work even if memory is full.
before_growth()
redis.call('HSET', Q .. 't:' .. ARGV[2], 'x_cancel', ARGV[3])
redis.pcall('PUBLISH', 'asynq:cancel', ARGV[2])
return {now, 1, task[2]}
