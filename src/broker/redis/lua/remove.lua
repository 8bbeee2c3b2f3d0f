-- Purpose: begins to remove a queue: its jobs are in no container afterwards.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  1 to remove its jobs too
--
-- Returns  now, code, 1 if groups are left for another call
--           1  done     0  refused: it has jobs     -1  refused: jobs are running
--
-- Differs from Asynq: without force it refuses for jobs of any state, also
-- completed and aggregating ones. With force nothing stays behind; what lies apart
-- from the containers is `scavenge`'s. The queue is paused until it is gone, so
-- that no worker takes a job of it.

local CONTAINERS = {'pending', 'scheduled', 'retry', 'archived', 'completed'}
local GROUPS, SETS, SOME = Q .. 'groups', Q .. 'aggregation_sets', 100
local MOST_GROUPS = 1000
expect_lists('active', 'pending')
expect_zsets('scheduled', 'retry', 'archived', 'completed', 'aggregation_sets')
redis.call('SCARD', GROUPS)

if redis.call('LLEN', Q .. 'active') > 0 then return {now, -1, 0} end
if ARGV[2] ~= '1' then
  local jobs = redis.call('ZCARD', SETS)
  for _, name in ipairs(CONTAINERS) do jobs = jobs + redis.call('EXISTS', Q .. name) end
  -- That many groups are not all left over.
  if redis.call('SCARD', GROUPS) > MOST_GROUPS then return {now, 0, 0} end
  for _, group in ipairs(redis.call('SMEMBERS', GROUPS)) do
    jobs = jobs + redis.call('EXISTS', Q .. 'g:' .. group)
  end
  if jobs > 0 then return {now, 0, 0} end
end

-- UNLINK, because DEL frees a million entries before it returns.
redis.call('UNLINK', Q .. 'lease', Q .. 'x:due', Q .. 'x:grouped')
for _, name in ipairs(CONTAINERS) do redis.call('UNLINK', Q .. name) end
redis.call('SET', Q .. 'paused', whole(now_s), 'NX')
for _, group in ipairs(redis.call('SRANDMEMBER', GROUPS, SOME)) do
  redis.call('UNLINK', Q .. 'g:' .. group)
  redis.call('SREM', GROUPS, group)
end
for _, set in ipairs(redis.call('ZRANGE', SETS, 0, SOME - 1)) do
  if string.sub(set, 1, #Q) == Q then redis.call('UNLINK', set) end
  redis.call('ZREM', SETS, set)
end
return {now, 1, redis.call('EXISTS', GROUPS, SETS) > 0 and 1 or 0}
