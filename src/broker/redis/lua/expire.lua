-- Purpose: removes completed jobs whose retention is over.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most
--
-- Returns  now, how many were removed
--
-- The same as Asynq's, with the number as an argument.

local COMPLETED = Q .. 'completed'
local ids = redis.call('ZRANGEBYSCORE', COMPLETED, '-inf', whole(now_s), 'LIMIT', 0,
  tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  redis.call('DEL', Q .. 't:' .. id)
  redis.call('ZREM', COMPLETED, id)
end
return {now, #ids}
