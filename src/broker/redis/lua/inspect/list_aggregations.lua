-- Purpose: the aggregations in progress that end first.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most
--
-- Returns  now, then per aggregation three values: key of its set after Q:g:,
--          jobs, when it ends in microseconds

local sets = redis.call('ZRANGE', Q .. 'aggregation_sets', 0, tonumber(ARGV[2]) - 1, 'WITHSCORES')
local prefix, answer = Q .. 'g:', {now}
for at = 1, #sets, 2 do
  -- Another queue's could lie on another node.
  if string.sub(sets[at], 1, #prefix) == prefix then
    answer[#answer + 1] = string.sub(sets[at], #prefix + 1)
    answer[#answer + 1] = redis.call('ZCARD', sets[at])
    answer[#answer + 1] = math.floor(bounded(tonumber(sets[at + 1]) * SECOND))
  end
end
return answer
