-- Purpose: finds groups of one queue that are ready to be aggregated.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  cursor of the previous answer, 0 at first
-- ARGV[3]  approximate number of groups to look at
-- ARGV[4]  maximum size, or 0 for none
-- ARGV[5]  maximum delay in seconds, or 0 for none
-- ARGV[6]  grace period in seconds
--
-- Returns  now, next cursor or 0 at the end, microseconds until the next of these groups is
--          ready or -1, then the names of the groups that are ready
--
-- Differs from Asynq, which reads all names and tries each group with a call of its own:
-- names of groups without jobs are removed, and a group whose key is of another type is
-- skipped.

local most, delay, grace = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local page = redis.call('SSCAN', GROUPS, ARGV[2], 'COUNT', tonumber(ARGV[3]))
local ready, empty, next_at = {}, {}, nil
for _, group in ipairs(page[2]) do
  local key = GROUP .. group
  if is_zset(key) then
    local at = ready_at(key, most, delay, grace)
    if not at then
      empty[#empty + 1] = group
    elseif at <= now_s then
      ready[#ready + 1] = group
    elseif not next_at or at < next_at then
      next_at = at
    end
  end
end
for _, group in ipairs(empty) do redis.call('SREM', GROUPS, group) end
local wait = next_at and math.max(0, math.min(next_at, LATEST) * SECOND - now) or -1
local answer = {now, page[1], wait}
for _, group in ipairs(ready) do answer[#answer + 1] = group end
return answer
