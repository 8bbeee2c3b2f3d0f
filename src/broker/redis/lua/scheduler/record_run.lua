-- Purpose: adds a run to the history of a periodic job, as Asynq does.
--
-- KEYS[1]  asynq:scheduler_history:<entry id>
-- ARGV[1]  when the job was enqueued, in seconds
-- ARGV[2]  SchedulerEnqueueEvent (protobuf)
-- ARGV[3]  minimum time the history lives from now on, in seconds
--
-- Returns  1
--
-- Uses neither common.lua nor the time. Order of effects as in Asynq: trim to 1000 runs,
-- then add. Differs from Asynq: the history expires, unless Asynq created it, and repeating
-- a run changes nothing.

local ttl = redis.call('TTL', KEYS[1])

if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1000)
  redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
end
-- -1: it exists and does not expire.
if ttl ~= -1 and ttl < tonumber(ARGV[3]) then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
