-- Purpose: how a job that is not active goes from one state to another. What `act`
-- and `sweep` share; it stands between common.lua and theirs.
--
-- ARGV[2]  run | archive | delete | reschedule | edit
-- ARGV[3]  most archived jobs
-- ARGV[4]  seconds they are kept
-- ARGV[5]  1 if archiving releases the unique lock
-- ARGV[6]  reschedule: now | after | at
-- ARGV[7]  its microseconds
--
-- Differs from Asynq:
-- * pending_since is set on every way into pending, and removed on every way out;
-- * a job that is run belongs to no group any more: after a failure it would
--   otherwise wait there instead of being tried again. One that is rescheduled goes
--   to its group when it is due;
-- * hashes and unique locks go with the ids that are deleted or trimmed.

local ACTION = ARGV[2]
local MOST_ARCHIVED, ARCHIVE_AGE, RELEASE = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local T, DUE, ARCHIVED = Q .. 't:', Q .. 'x:due', Q .. 'archived'

local due = now
if ARGV[6] == 'after' then due = math.max(now, bounded(now + tonumber(ARGV[7]))) end
if ARGV[6] == 'at' then due = math.max(now, bounded(tonumber(ARGV[7]))) end

expect_lists('pending')
expect_zsets('scheduled', 'retry', 'archived', 'completed', 'x:due', 'x:grouped')
redis.call('SCARD', Q .. 'groups')

-- The sorted set of a state other than pending.
local function container(state, group)
  if state == 'aggregating' then return Q .. 'g:' .. group end
  return Q .. state
end

local function leave(id, state, from)
  redis.call('ZREM', from, id)
  if state == 'scheduled' or state == 'retry' then
    redis.call('ZREM', DUE, id)
    redis.call('ZREM', Q .. 'x:grouped', id)
  end
end

-- Readers ask for the groups that have jobs.
local function group_may_be_over(state, group, from)
  if state == 'aggregating' and redis.call('EXISTS', from) == 0 then
    redis.call('SREM', Q .. 'groups', group)
  end
end

-- What happens to a job that has just left its container.
local function enter(id, state)
  local task = T .. id
  if ACTION == 'delete' then
    forget(id)
  elseif ACTION == 'archive' then
    make_room(MOST_ARCHIVED, ARCHIVE_AGE)
    redis.call('ZADD', ARCHIVED, whole(now_s), id)
    redis.call('HSET', task, 'state', 'archived')
    redis.call('HDEL', task, 'pending_since')
    if RELEASE then release(id) end
  elseif due > now and ACTION == 'reschedule' then
    local line = state == 'retry' and 'retry' or 'scheduled'
    redis.call('ZADD', Q .. line, whole(shown(due)), id)
    redis.call('ZADD', DUE, whole(due), id)
    redis.call('HSET', task, 'state', line)
    redis.call('HDEL', task, 'pending_since')
    -- Whoever forwards it puts it into its group, and a Go forwarder tells nobody.
    if redis.call('HEXISTS', task, 'group') == 1 then
      redis.call('ZADD', Q .. 'x:grouped', whole(shown(due)), id)
    end
  else
    redis.call('LPUSH', KEYS[1], id)
    redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ns())
    redis.call('HDEL', task, 'group')
  end
  -- The operator's later word counts, also against an attempt whose lease was lost.
  if ACTION ~= 'delete' then redis.call('HDEL', task, 'x_cancel', 'x_reclaimed') end
end
