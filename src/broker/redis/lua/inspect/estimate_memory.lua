-- Purpose: estimates the memory that a queue uses.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  number of jobs in groups, as counted before
--
-- Returns  now, bytes, number of measured jobs, number of jobs that the estimate covers
--
-- Differs from Asynq: it samples jobs at both ends of each list; ids without a job are left
-- out of the sample instead of failing it; groups without jobs add nothing.

-- Jobs measured at each end of a list, groups looked at, and jobs measured in each of them.
local ENDS, GROUPS, OF_GROUP = 10, 5, 4
local bytes, measured, stands_for = 0, 0, 0

local function size(key)
  return redis.call('MEMORY', 'USAGE', key) or 0
end
local function sample(ids, jobs)
  local sum, some, seen = 0, 0, {}
  for _, id in ipairs(ids) do
    local one = not seen[id] and redis.call('MEMORY', 'USAGE', Q .. 't:' .. id)
    seen[id] = true
    if one then sum, some = sum + one, some + 1 end
  end
  measured = measured + some
  if some > 0 then
    stands_for = stands_for + jobs
    bytes = bytes + sum / some * jobs
  end
end
local function both_ends(range, key, jobs)
  local ids = redis.call(range, key, 0, ENDS - 1)
  for _, id in ipairs(redis.call(range, key, -ENDS, -1)) do ids[#ids + 1] = id end
  bytes = bytes + size(key)
  sample(ids, jobs)
end

for _, name in ipairs({'pending', 'active'}) do
  both_ends('LRANGE', Q .. name, redis.call('LLEN', Q .. name))
end
for _, name in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
  both_ends('ZRANGE', Q .. name, redis.call('ZCARD', Q .. name))
end
for _, name in ipairs({'lease', 'x:due', 'groups', 'aggregation_sets'}) do
  bytes = bytes + size(Q .. name)
end
local grouped = {}
for _, group in ipairs(redis.call('SRANDMEMBER', Q .. 'groups', GROUPS)) do
  for _, id in ipairs(redis.call('ZRANGE', Q .. 'g:' .. group, 0, OF_GROUP - 1)) do
    grouped[#grouped + 1] = id
  end
end
sample(grouped, tonumber(ARGV[2]))
return {now, math.floor(bytes), measured, stands_for}
