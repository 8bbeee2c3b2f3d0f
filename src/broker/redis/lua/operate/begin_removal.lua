-- Purpose: begins to remove a queue: afterwards none of its jobs is in a list or sorted set.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  0 only if it has no jobs | 1 with its jobs | 2 continue with the remaining groups
--
-- Returns  now, code, 1 if groups remain for another call
--           1  done     0  refused: it has jobs     -1  refused: jobs are running
--
-- Differs from Asynq: without force it refuses for jobs of any state, also completed and
-- aggregating ones. With force nothing stays behind; delete_leftovers.lua deletes hashes,
-- locks and counters. The queue is paused until end_removal.lua, so that no worker
-- dequeues its jobs; a 0 in front of the second in Q:paused marks that pause. Meanwhile
-- Q:x:removing exists and stops repairs.
--
-- The first call sets aside everything that is to be removed. Later calls touch nothing
-- else, so new jobs are safe; a group that a new job joins before its turn is kept whole.

local CONTAINERS = {'pending', 'scheduled', 'retry', 'archived', 'completed'}
local GROUPS, SETS, SOME = Q .. 'groups', Q .. 'aggregation_sets', 100
local OLD_GROUPS, OLD_SETS = Q .. 'x:removing:groups', Q .. 'x:removing:sets'
-- Without force, more groups than this count as jobs: not all of them can be left over.
local MAX_GROUPS = 1000
expect_lists('active', 'pending')
expect_zsets('scheduled', 'retry', 'archived', 'completed', 'aggregation_sets')
redis.call('SCARD', GROUPS)

-- Refuses, and ends the pause of an earlier removal that did not finish: nothing else would.
local function refuse(code)
  local paused = redis.pcall('GET', Q .. 'paused')
  if type(paused) == 'string' and string.match(paused, '^0%d') then
    redis.call('DEL', Q .. 'paused')
  end
  return {now, code, 0}
end

if ARGV[2] == '2' then
  redis.call('SCARD', OLD_GROUPS)
  redis.call('ZCARD', OLD_SETS)
else
  if redis.call('LLEN', Q .. 'active') > 0 then return refuse(-1) end
  if ARGV[2] == '0' then
    local jobs = redis.call('ZCARD', SETS)
    for _, name in ipairs(CONTAINERS) do jobs = jobs + redis.call('EXISTS', Q .. name) end
    if redis.call('SCARD', GROUPS) > MAX_GROUPS then return refuse(0) end
    for _, group in ipairs(redis.call('SMEMBERS', GROUPS)) do
      jobs = jobs + redis.call('EXISTS', Q .. 'g:' .. group)
    end
    if jobs > 0 then return refuse(0) end
  end
  -- UNLINK, because DEL frees a million entries before it returns.
  redis.call('UNLINK', OLD_GROUPS, OLD_SETS)
  redis.call('UNLINK', Q .. 'lease', Q .. 'x:due', Q .. 'x:grouped', Q .. 'x:sets', Q .. 'x:gone',
    Q .. 'x:minutes', Q .. 'x:start_by', Q .. 'x:held')
  for _, name in ipairs(CONTAINERS) do redis.call('UNLINK', Q .. name) end
  if redis.call('EXISTS', GROUPS) == 1 then redis.call('RENAME', GROUPS, OLD_GROUPS) end
  if redis.call('EXISTS', SETS) == 1 then redis.call('RENAME', SETS, OLD_SETS) end
  redis.call('SET', Q .. 'paused', '0' .. whole(now_s), 'NX')
end

before_growth()
redis.call('SET', Q .. 'x:removing', '1', 'EX', 60)
for _, group in ipairs(redis.call('SRANDMEMBER', OLD_GROUPS, SOME)) do
  if redis.call('SISMEMBER', GROUPS, group) == 0 then redis.call('UNLINK', Q .. 'g:' .. group) end
  redis.call('SREM', OLD_GROUPS, group)
end
for _, set in ipairs(redis.call('ZRANGE', OLD_SETS, 0, SOME - 1)) do
  if string.sub(set, 1, #Q) == Q and not redis.call('ZSCORE', SETS, set) then
    redis.call('UNLINK', set)
  end
  redis.call('ZREM', OLD_SETS, set)
end
return {now, 1, redis.call('EXISTS', OLD_GROUPS, OLD_SETS) > 0 and 1 or 0}
