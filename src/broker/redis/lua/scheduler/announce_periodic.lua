-- Purpose: writes the periodic jobs of a process, as Asynq's schedulers do.
--
-- KEYS[1]  asynq:schedulers:{<scheduler id>}
-- ARGV[1]  seconds the key lives
-- ARGV[2…] SchedulerEntry (protobuf), one per periodic job
--
-- Returns  1
--
-- Uses neither common.lua nor the time. Commands and their order are Asynq's.

redis.call('DEL', KEYS[1])
for at = 2, #ARGV do redis.call('LPUSH', KEYS[1], ARGV[at]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
