-- Purpose: takes the jobs of a group out of it, to be aggregated, if it is ready.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  group
-- ARGV[3]  id of the set they are taken into, random
-- ARGV[4]  greatest size or 0, greatest delay in seconds or 0, time of peace in
-- … [6]    seconds
-- ARGV[7]  for how many seconds the set is the caller's
-- ARGV[8]  most jobs of a set, whatever the greatest size
--
-- Returns  now; where it was ready, then the second in which the set ends, and its
--          size. The same again for the same set.
--
-- Differs from Asynq:
-- * a whole group is renamed instead of copied;
-- * a set has a bound where the group has none: its taker holds it in memory;
-- * the set is noted in Q:x:sets too: a Go server that brings its jobs back tells
--   nobody of the group.

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
