-- Purpose: some groups of a queue.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  about how many
-- ARGV[3]  where to go on: 0, or the cursor of the answer before
--
-- Returns  now, number of groups, cursor (0 at the end), then per group four
--          values: name, jobs, when the first and the last joined, in
--          microseconds or -1

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
