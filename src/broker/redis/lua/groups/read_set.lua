-- Purpose: reads a page of the jobs of an aggregation set.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  group
-- ARGV[3]  id of the set
-- ARGV[4]  number of jobs to skip
-- ARGV[5]  maximum number of jobs
--
-- Returns  now, then two values per job, the one that joined first in front: id, and message
--          or empty if there is none. Large jobs make the page shorter, never empty
--
-- Differs from Asynq, which reads the whole set at once and fails completely if the key of
-- one job is of another type.

-- Maximum bytes in one answer: Redis does nothing else while it sends them.
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
