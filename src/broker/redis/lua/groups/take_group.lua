-- Purpose: moves the jobs of a group into an aggregation set, if the group is ready.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  group
-- ARGV[3]  id of the set, random
-- ARGV[4]  maximum size, or 0 for none
-- ARGV[5]  maximum delay in seconds, or 0 for none
-- ARGV[6]  grace period in seconds
-- ARGV[7]  seconds for which the set is the caller's
-- ARGV[8]  maximum number of jobs in a set, whatever the maximum size
--
-- Returns  now; if the group was ready also the second at which the set ends, and its size.
--          The same values again if this set was taken before
--
-- Order of effects: Asynq copies the members, removes them from the group, records the set,
-- then removes the group's name. Differences:
-- * a whole group is renamed instead of copied, and its name is removed before the set is
--   recorded;
-- * a set is bounded even if the group has no maximum size: its taker holds it in memory;
-- * the set is also recorded in Q:x:sets: a Go server that returns the jobs to the group
--   does not add the group to Q:groups.

local group, set = ARGV[2], GROUP .. ARGV[2] .. ':' .. ARGV[3]
local key, most = GROUP .. group, tonumber(ARGV[4])
expect_zsets('aggregation_sets', 'x:sets', 'g:' .. group)
redis.call('SCARD', GROUPS)
local mine = redis.call('ZSCORE', SETS, set)
if mine then return {now, tonumber(mine), redis.call('ZCARD', set)} end
local at = ready_at(key, most, tonumber(ARGV[5]), tonumber(ARGV[6]))
if not at or at > now_s then return {now} end

before_growth()
local size, ends = redis.call('ZCARD', key), now_s + tonumber(ARGV[7])
local bound = tonumber(ARGV[8])
if most > 0 then bound = math.min(bound, most) end
if size > bound then
  size = bound
  redis.call('ZRANGESTORE', set, key, 0, bound - 1)
  redis.call('ZREMRANGEBYRANK', key, 0, bound - 1)
else
  redis.call('RENAME', key, set)
  redis.call('SREM', GROUPS, group)
end
redis.call('ZADD', SETS, ends, set)
redis.call('ZADD', OWN_SETS, ends, set)
return {now, ends, size}
