-- Purpose: writes the heartbeat of a worker process, as Asynq does.
--
-- KEYS[1]  asynq:servers:{<host>:<pid>:<server id>}
-- KEYS[2]  asynq:workers:{<host>:<pid>:<server id>}
-- ARGV[1]  seconds both keys live
-- ARGV[2]  ServerInfo (protobuf)
-- ARGV[3…] two values per running job: id, WorkerInfo (protobuf)
--
-- Returns  1
--
-- Uses neither common.lua nor the time. The commands are Asynq's, except that the one that
-- frees memory comes first: a full server still learns of its workers.

redis.call('DEL', KEYS[2])
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[2])
for at = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
