-- Purpose: begins to remove a queue: its jobs are in no container afterwards.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  0 | 1 to remove its jobs too | 2 to go on where groups were left
--
-- Returns  now, code, 1 if groups are left for another call
--           1  done     0  refused: it has jobs     -1  refused: jobs are running
--
-- Differs from Asynq: without force it refuses for jobs of any state, also
-- completed and aggregating ones. With force nothing stays behind; what lies apart
-- from the containers is `scavenge`'s. The queue is paused until it is gone, so
-- that no worker takes a job of it; a zero before the second tells that pause
-- from an operator's. Q:x:removing exists meanwhile, for whoever mends queues.
--
-- What is to go is put aside in the first call. Later ones touch nothing else, so
-- that what has arrived since is safe; a group that a new job has joined before its
-- turn stays whole.

local CONTAINERS = {'pending', 'scheduled', 'retry', 'archived', 'completed'}
local GROUPS, SETS, SOME = Q .. 'groups', Q .. 'aggregation_sets', 100
local OLD_GROUPS, OLD_SETS = Q .. 'x:removing:groups', Q .. 'x:removing:sets'
local MOST_GROUPS = 1000
expect_lists('active', 'pending')
expect_zsets('scheduled', 'retry', 'archived', 'completed', 'aggregation_sets')
redis.call('SCARD', GROUPS)

-- A pause that is left of a removal which did not come to its end would stay for ever.
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
    -- That many groups are not all left over.
    if redis.call('SCARD', GROUPS) > MOST_GROUPS then return refuse(0) end
    for _, group in ipairs(redis.call('SMEMBERS', GROUPS)) do
      jobs = jobs + redis.call('EXISTS', Q .. 'g:' .. group)
    end
    if jobs > 0 then return refuse(0) end
  end
  -- UNLINK, because DEL frees a million entries before it returns.
  redis.call('UNLINK', OLD_GROUPS, OLD_SETS)
  redis.call('UNLINK', Q .. 'lease', Q .. 'x:due', Q .. 'x:grouped', Q .. 'x:sets', Q .. 'x:gone',
    Q .. 'x:minutes', Q .. 'x:admitted')
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
