-- Purpose: lists the aggregations in progress that end first.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of aggregations
--
-- Returns  now, then three values per aggregation: key of its set after Q:g:, number of jobs,
--          microsecond at which it ends

local sets = redis.call('ZRANGE', Q .. 'aggregation_sets', 0, tonumber(ARGV[2]) - 1, 'WITHSCORES')
local prefix, answer = Q .. 'g:', {now}
for at = 1, #sets, 2 do
  -- A set of another queue could be on another node.
  if string.sub(sets[at], 1, #prefix) == prefix then
    answer[#answer + 1] = string.sub(sets[at], #prefix + 1)
    answer[#answer + 1] = redis.call('ZCARD', sets[at])
    answer[#answer + 1] = math.floor(bounded(tonumber(sets[at + 1]) * SECOND))
  end
end
return answer
