-- Purpose: finds groups of one queue that are to be aggregated now.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  where to go on, 0 at first
-- ARGV[3]  how many groups at a time, about
-- ARGV[4]  greatest size or 0, greatest delay in seconds or 0, time of peace in
-- … [6]    seconds
--
-- Returns  now, where to go on or 0, microseconds until the next of these groups
--          is ready or -1, then the names of those that are ready
--
-- Differs from Asynq, which reads all names and tries each group by itself: names
-- of groups without a job are removed; a group whose key has another type is left
-- out and keeps no other from being found.

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
