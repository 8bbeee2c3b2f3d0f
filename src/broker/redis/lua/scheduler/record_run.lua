-- Purpose: adds a run to the history of a periodic entry, as Asynq does.
--
-- KEYS[1]  asynq:scheduler_history:<entry id>
-- ARGV[1]  when, in seconds
-- ARGV[2]  SchedulerEnqueueEvent
-- ARGV[3]  seconds the history lives from now on, at least
--
-- Returns  1
--
-- Stands alone: no queue, no time. Differs from Asynq: the history expires, unless
-- Asynq has begun it, and the same run again leaves it as it is.

local ttl = redis.call('TTL', KEYS[1])

if not redis.call('ZSCORE', KEYS[1], ARGV[2]) then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1000)
  redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
end
-- -1: it is there and does not expire.
if ttl ~= -1 and ttl < tonumber(ARGV[3]) then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
