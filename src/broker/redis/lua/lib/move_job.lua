-- Purpose: moves a job that is not active from one state to another, for act_on_job.lua and
-- act_in_bulk.lua.
--
-- ARGV[2]  action: run | run_next | archive | delete | reschedule | edit
-- ARGV[3]  maximum number of archived jobs
-- ARGV[4]  seconds archived jobs are kept
-- ARGV[5]  1 if archiving releases the unique lock
-- ARGV[6]  reschedule: now | after | at
-- ARGV[7]  reschedule: microseconds of the delay or instant
--
-- Differs from Asynq:
-- * pending_since is set on every way into pending and removed on every way out;
-- * a job that is run leaves its group. Otherwise it would go back to the group after a
--   failure instead of being retried. A rescheduled job goes to its group when it is due;
-- * the hashes and unique locks of deleted and trimmed jobs are deleted too.

local ACTION = ARGV[2]
local MAX_ARCHIVED, ARCHIVE_AGE, RELEASE = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local T, DUE, ARCHIVED = Q .. 't:', Q .. 'x:due', Q .. 'archived'

local due = now
if ARGV[6] == 'after' then due = math.max(now, bounded(now + tonumber(ARGV[7]))) end
if ARGV[6] == 'at' then due = math.max(now, bounded(tonumber(ARGV[7]))) end

expect_lists('pending')
expect_zsets('scheduled', 'retry', 'archived', 'completed', 'x:due', 'x:grouped')
redis.call('SCARD', Q .. 'groups')

-- Key of the sorted set of a state other than pending.
local function container(state, group)
  if state == 'aggregating' then return Q .. 'g:' .. group end
  return Q .. state
end

-- Removes a job from its sorted set and from the sets beside it.
local function leave(id, state, from)
  redis.call('ZREM', from, id)
  if state == 'scheduled' or state == 'retry' then
    redis.call('ZREM', DUE, id)
    redis.call('ZREM', Q .. 'x:grouped', id)
    -- It does not wait for a limit any more.
    stop_waiting(id)
  end
end

-- Removes the name of a group without jobs from Q:groups: readers expect jobs there.
local function group_may_be_over(state, group, from)
  if state == 'aggregating' and redis.call('EXISTS', from) == 0 then
    redis.call('SREM', Q .. 'groups', group)
  end
end

-- Carries out the action on a job that has just left its list or sorted set.
local function enter(id, state)
  local task = T .. id
  if ACTION == 'delete' then
    forget(id)
  elseif ACTION == 'archive' then
    make_room(MAX_ARCHIVED, ARCHIVE_AGE)
    redis.call('ZADD', ARCHIVED, whole(now_s), id)
    redis.call('HSET', task, 'state', 'archived')
    redis.call('HDEL', task, 'pending_since', 'x_wait')
    if RELEASE then release(id) end
  elseif due > now and ACTION == 'reschedule' then
    local line = state == 'retry' and 'retry' or 'scheduled'
    redis.call('ZADD', Q .. line, whole(shown(due)), id)
    redis.call('ZADD', DUE, whole(due), id)
    redis.call('HSET', task, 'state', line)
    redis.call('HDEL', task, 'pending_since', 'x_wait')
    -- The forwarder puts it into its group; a Go forwarder does not list the group.
    if redis.call('HEXISTS', task, 'group') == 1 then
      redis.call('ZADD', Q .. 'x:grouped', whole(shown(due)), id)
    end
  else
    redis.call(ACTION == 'run_next' and 'RPUSH' or 'LPUSH', KEYS[1], id)
    -- One that is pending goes on waiting.
    if state ~= 'pending' then
      redis.call('HSET', task, 'state', 'pending', 'pending_since', now_ns())
    end
    redis.call('HDEL', task, 'group')
  end
  -- This action replaces an earlier cancel request, and a worker that lost the lease can no
  -- longer settle the job. Nor does the job expire any more: an operator has decided about it.
  if ACTION ~= 'delete' then
    redis.call('HDEL', task, 'x_cancel', 'x_reclaimed', 'x_start_by', 'x_after', 'x_then')
  end
end
