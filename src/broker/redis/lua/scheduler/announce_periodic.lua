-- Purpose: writes which periodic entries a process has, as Asynq's schedulers do.
--
-- KEYS[1]  asynq:schedulers:{<scheduler id>}
-- ARGV[1]  seconds the key lives
-- ARGV[2…] SchedulerEntry
--
-- Returns  1
--
-- Stands alone: no queue, no time. The same commands as Asynq's.

redis.call('DEL', KEYS[1])
for at = 2, #ARGV do redis.call('LPUSH', KEYS[1], ARGV[at]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
