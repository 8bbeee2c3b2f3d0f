-- Purpose: the names of a group's keys, and when a group is ready to be aggregated.

local GROUP, SETS = Q .. 'g:', Q .. 'aggregation_sets'
local GROUPS, OWN_SETS = Q .. 'groups', Q .. 'x:sets'

-- The second at which the group is ready, possibly in the past; false if it has no jobs. The
-- first rule that applies decides: it has `most` jobs; its oldest job has waited for `delay`
-- seconds; no job has joined for `grace` seconds.
local function ready_at(key, most, delay, grace)
  local size = redis.call('ZCARD', key)
  if size == 0 then return false end
  if most > 0 and size >= most then return now_s end
  local at = tonumber(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]) + grace
  if delay > 0 then
    at = math.min(at, tonumber(redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]) + delay)
  end
  return at
end

-- The name of the group that a set was taken from: the part before the last colon.
local function group_of(set)
  if string.sub(set, 1, #GROUP) ~= GROUP then return false end
  return string.match(string.sub(set, #GROUP + 1), '^(.+):[^:]*$')
end

local function is_zset(key)
  return type(redis.pcall('ZCARD', key)) == 'number'
end
