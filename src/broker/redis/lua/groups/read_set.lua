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
--          message or empty if there is none. Of fewer jobs where they are large,
--          of one at least.
--
-- Differs from Asynq, which reads all at once and fails with all where the key of
-- one job has another type.

-- What one answer may hold, in bytes: the server does nothing else meanwhile.
local ROOM = 1048576

local from = tonumber(ARGV[4])
local ids = redis.call('ZRANGE', GROUP .. ARGV[2] .. ':' .. ARGV[3], from,
  from + tonumber(ARGV[5]) - 1)
local answer, spent = {now}, 0
for _, id in ipairs(ids) do
  local msg = redis.pcall('HGET', Q .. 't:' .. id, 'msg')
  if type(msg) ~= 'string' then msg = '' end
  spent = spent + #msg
  if spent > ROOM and #answer > 1 then break end
  answer[#answer + 1] = id
  answer[#answer + 1] = msg
end
return answer
