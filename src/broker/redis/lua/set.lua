-- Purpose: reads a part of the jobs of a set.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  group
-- ARGV[3]  id of the set
-- ARGV[4]  how many to pass over
-- ARGV[5]  how many
--
-- Returns  now, then per job two values, the one that joined first in front: id,
--          message or empty if there is none
--
-- Differs from Asynq, which reads all at once and fails with all where the key of
-- one job has another type.

local from = tonumber(ARGV[4])
local ids = redis.call('ZRANGE', GROUP .. ARGV[2] .. ':' .. ARGV[3], from,
  from + tonumber(ARGV[5]) - 1)
local answer = {now}
for _, id in ipairs(ids) do
  local msg = redis.pcall('HGET', Q .. 't:' .. id, 'msg')
  answer[#answer + 1] = id
  answer[#answer + 1] = type(msg) == 'string' and msg or ''
end
return answer
