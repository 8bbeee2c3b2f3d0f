-- Purpose: lists a page of a queue's groups.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  approximate number of groups
-- ARGV[3]  cursor of the previous answer, 0 at first
--
-- Returns  now, number of groups, next cursor (0 at the end), then four values per group:
--          name, number of jobs, microseconds at which the first and the last job joined, or
--          -1

local some = redis.call('SSCAN', Q .. 'groups', ARGV[3], 'COUNT', tonumber(ARGV[2]))
local function joined(group, rank)
  local score = redis.call('ZRANGE', Q .. 'g:' .. group, rank, rank, 'WITHSCORES')[2]
  return score and math.floor(bounded(tonumber(score) * SECOND)) or -1
end
local answer = {now, redis.call('SCARD', Q .. 'groups'), some[1]}
for _, group in ipairs(some[2]) do
  answer[#answer + 1] = group
  answer[#answer + 1] = redis.call('ZCARD', Q .. 'g:' .. group)
  answer[#answer + 1] = joined(group, 0)
  answer[#answer + 1] = joined(group, -1)
end
return answer
