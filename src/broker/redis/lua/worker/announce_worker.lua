-- Purpose: writes the heartbeat of a worker process, as Asynq does, and reads what operators
-- ask of it.
--
-- KEYS[1]  asynq:servers:{<host>:<pid>:<server id>}
-- KEYS[2]  asynq:workers:{<host>:<pid>:<server id>}
-- KEYS[3]  asynq:x:worker:{<host>:<pid>:<server id>}
-- KEYS[4]  asynq:x:asked:{<host>:<pid>:<server id>}
-- KEYS[5]  asynq:x:asked:all[:<namespace>], except on a Cluster, where it is in another slot
-- ARGV[1]  seconds the first three keys live
-- ARGV[2]  seconds KEYS[4] lives at least
-- ARGV[3]  ServerInfo (protobuf)
-- ARGV[4]  what only this crate reads (JSON)
-- ARGV[5…] two values per running job: id, WorkerInfo (protobuf)
--
-- Returns  the requests of this process, those of all: each a list of fields and values; an
--          empty one for a key of another type
--
-- Uses neither common.lua nor the time. The commands on the first two keys are Asynq's, except
-- that the one that frees memory comes first: a full server still learns of its workers.

redis.call('DEL', KEYS[2])
redis.call('SETEX', KEYS[1], ARGV[1], ARGV[3])
for at = 5, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
redis.call('EXPIRE', KEYS[2], ARGV[1])
redis.call('SETEX', KEYS[3], ARGV[1], ARGV[4])
redis.call('EXPIRE', KEYS[4], ARGV[2])

local function requests(key)
  if not key then return {} end
  local found = redis.pcall('HGETALL', key)
  if found.err then return {} end
  return found
end
return {requests(KEYS[4]), requests(KEYS[5])}
