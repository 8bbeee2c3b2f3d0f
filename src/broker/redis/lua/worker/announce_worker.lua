-- Purpose: writes what a worker process tells about itself, as Asynq does.
--
-- KEYS[1]  asynq:servers:{<host>:<pid>:<server id>}
-- KEYS[2]  asynq:workers:{<host>:<pid>:<server id>}
-- ARGV[1]  seconds both keys live
-- ARGV[2]  ServerInfo
-- ARGV[3…] per running job two values: id, WorkerInfo
--
-- Returns  1
--
-- Stands alone: no queue, no time. The same commands as Asynq's, with the one
-- that does not grow memory first, so that a full server still hears of workers.

redis.call('DEL', KEYS[2])
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
for at = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
