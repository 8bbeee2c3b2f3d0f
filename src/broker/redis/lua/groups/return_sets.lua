-- Purpose: returns the jobs of sets whose aggregation did not finish to their groups, lists
-- groups in Q:groups that were filled without being listed, and deletes what large aggregated
-- sets left.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of sets, of own sets, and of grouped jobs to look at
--
-- Returns  now, number of returned sets, 1 if there may be more to do
--
-- Differs from Asynq:
-- * the group's name is added to Q:groups; without it nobody finds the group again;
-- * the same for sets that a Go server returned (Q:x:sets) and for jobs that a Go forwarder
--   sent to their group (Q:x:grouped);
-- * the smaller one of group and set is moved; usually there is no group, and the set is
--   renamed;
-- * a call moves a bounded number of jobs. If part of a set is left, the set stays expired
--   under a new name: its former taker must not aggregate a part of it, nor jobs that
--   joined it;
-- * a set whose name or type is wrong is skipped.

-- Maximum number of jobs moved or deleted by one call, and the suffix of a set of which
-- part was left.
local PART, PARTLY = 500, '.back'
local limit = tonumber(ARGV[2])
local GROUPED, GONE = Q .. 'x:grouped', Q .. 'x:gone'
expect_zsets('aggregation_sets', 'x:sets', 'x:grouped', 'x:gone')
redis.call('SCARD', GROUPS)
local till = whole(now_s)
local function ended(key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', till, 'LIMIT', 0, limit)
end

-- Number of jobs this call may still move.
local left = PART
-- Moves up to that many jobs with their scores.
local function move(from, to)
  local some = redis.call('ZRANGE', from, 0, left - 1, 'WITHSCORES')
  local pairs_of = {}
  for at = 1, #some, 2 do
    pairs_of[at] = some[at + 1]
    pairs_of[at + 1] = some[at]
  end
  redis.call('ZADD', to, unpack(pairs_of))
  redis.call('ZREMRANGEBYRANK', from, 0, #some / 2 - 1)
  left = left - #some / 2
end

-- Renames a set, so that its former taker cannot aggregate it.
local function disown(set)
  if string.sub(set, -#PARTLY) == PARTLY then return set end
  redis.call('RENAME', set, set .. PARTLY)
  for _, sets in ipairs({SETS, OWN_SETS}) do
    local ends = redis.call('ZSCORE', sets, set)
    if ends then
      redis.call('ZADD', sets, ends, set .. PARTLY)
      redis.call('ZREM', sets, set)
    end
  end
  return set .. PARTLY
end

local stale, own, jobs = ended(SETS), ended(OWN_SETS), ended(GROUPED)
local more = #own == limit or #jobs == limit
local brought = 0
if #stale + #own + #jobs > 0 then before_growth() end

for _, set in ipairs(stale) do
  local group = group_of(set)
  local key = group and GROUP .. group
  if group and is_zset(set) and is_zset(key) then
    local size, waiting = redis.call('ZCARD', set), redis.call('ZCARD', key)
    local part = math.min(size, waiting) > left
    if part then
      more = true
      if left == 0 then break end
      set = disown(set)
    end
    if size > 0 then
      if waiting > 0 and waiting < size then
        move(key, set)
      elseif waiting > 0 then
        move(set, key)
      end
      if not part and waiting < size then redis.call('RENAME', set, key) end
      redis.call('SADD', GROUPS, group)
    end
    if not part then
      if size > 0 then brought = brought + 1 end
      redis.call('ZREM', SETS, set)
    end
  end
end

more = more or #stale == limit and brought > 0

-- Adds the group to Q:groups if it has jobs.
local function known(group)
  if group and redis.pcall('EXISTS', GROUP .. group) == 1 then redis.call('SADD', GROUPS, group) end
end
for _, set in ipairs(own) do
  known(group_of(set))
  redis.call('ZREM', OWN_SETS, set)
end
for _, id in ipairs(jobs) do
  local task = redis.pcall('HMGET', Q .. 't:' .. id, 'state', 'group')
  local state = task[1]
  if state == 'aggregating' then known(task[2]) end
  if state == 'scheduled' or state == 'retry' then
    -- Late or rescheduled: look again in 5 s.
    redis.call('ZADD', GROUPED, whole(now_s + 5), id)
  else
    redis.call('ZREM', GROUPED, id)
  end
end

-- Sets taken by Go servers are followed like ours.
for _, set in ipairs(redis.call('ZRANGE', SETS, 0, limit - 1)) do
  if group_of(set) then redis.call('ZADD', OWN_SETS, 'NX', redis.call('ZSCORE', SETS, set), set) end
end

local gone = redis.call('ZRANGE', GONE, 0, 0)[1]
if gone then
  local ids = is_zset(gone) and redis.call('ZRANGE', gone, 0, PART - 1) or {}
  for _, id in ipairs(ids) do
    local lock = redis.pcall('HGET', Q .. 't:' .. id, 'unique_key')
    if type(lock) == 'string' and string.sub(lock, 1, #Q) == Q
      and redis.pcall('GET', lock) == id then
      redis.call('DEL', lock)
    end
    redis.call('DEL', Q .. 't:' .. id)
  end
  if #ids == PART then
    redis.call('ZREMRANGEBYRANK', gone, 0, PART - 1)
    more = true
  else
    redis.call('DEL', gone)
    redis.call('ZREM', GONE, gone)
    more = more or redis.call('ZCARD', GONE) > 0
  end
end
return {now, brought, more and 1 or 0}
