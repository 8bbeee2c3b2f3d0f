-- Purpose: successors. Where a job that runs holds a unique lock, or_replace keeps one job, the
-- newest, which waits until the holder ends and has the lock then.
--
-- A successor is a job with x_after, the id of the holder; that has its id in x_next. For Asynq's
-- tools it is scheduled for an hour ahead, which is moved on while the holder runs: after a
-- roll-back to Go workers nothing is stranded. x_then says how it is enqueued, with commas between:
-- due time in microseconds, microseconds the lock is held after it, when the lock ends (success |
-- start), microseconds after the due time by which it must have started or nothing, the lock's key.
--
-- A settlement of ours reads x_next together with what it reads anyway, and enqueues the successor
-- in the same step. Whatever else ends the holder (Go's settlement and recovery) the janitor
-- finds: Q:x:after has all successors by the second at which they were looked at last.
--
-- If the holder would run again, it is removed in favour of its successor, as a waiting job is that
-- is replaced. A successor that an operator runs, moves or archives is a job like others then.
--
-- The writes happen between other writes of a script, so nothing here raises an error. Asynq has
-- no counterpart.

-- How far ahead a successor is scheduled, and when that is moved on.
local FOLLOWS_IN_S, MOVED_ON_S = 3600, 1800
-- Maximum number of successors that one call looks at.
local MAX_LOOKED_AFTER = 100

-- Whether this job waits for the end of that one.
local function follows(id, holder)
  local task = redis.pcall('HMGET', Q .. 't:' .. id, 'state', 'x_after')
  return not task.err and task[1] == 'scheduled' and task[2] == holder
end

-- Gives the lock to a successor whose holder has ended. False if a newer job has it.
local function inherit(id, holder, lock, lock_for, ends, due)
  local value = redis.pcall('GET', lock)
  -- A lock of another type is left alone.
  if type(value) == 'table' then return true end
  value = get_until(lock)
  if value and value ~= holder then return false end
  set_until(lock, id, due + lock_for)
  redis.pcall('HSET', Q .. 't:' .. id, 'unique_key', lock)
  if ends == 'start' then redis.pcall('HSET', Q .. 't:' .. id, 'x_unlock', lock) end
  return true
end

-- Enqueues the successor of a job that has ended. One that came before the newer job which has the
-- lock meanwhile, because the holder ran longer than the lock lasted, is removed.
local function succeed(holder, id)
  if not follows(id, holder) then return end
  local key = Q .. 't:' .. id
  local task = redis.pcall('HMGET', key, 'x_then', 'group')
  local due, lock_for, ends, within, lock =
    string.match(task[1] or '', '^(%d+),(%d+),(%a+),(%d*),(.+)$')
  due = math.max(now, bounded(tonumber(due) or now))
  redis.pcall('ZREM', Q .. 'x:after', id)
  redis.pcall('ZREM', Q .. 'scheduled', id)
  if lock and not inherit(id, holder, lock, tonumber(lock_for), ends, due) then
    redis.call('DEL', key)
    return
  end
  redis.call('HDEL', key, 'x_after', 'x_then')
  if within and within ~= '' then
    local at = whole(bounded(due + tonumber(within)))
    redis.call('HSET', key, 'x_start_by', at)
    redis.pcall('ZADD', Q .. 'x:start_by', at, id)
  end
  local group = task[2] or ''
  if due > now then
    redis.pcall('ZADD', Q .. 'scheduled', whole(shown(due)), id)
    redis.pcall('ZADD', Q .. 'x:due', whole(due), id)
    if group ~= '' then redis.pcall('ZADD', Q .. 'x:grouped', whole(shown(due)), id) end
    wake_if_first(id)
  elseif group ~= '' and redis.pcall('ZADD', Q .. 'g:' .. group, whole(now_s), id) == 1 then
    redis.pcall('SADD', Q .. 'groups', group)
    redis.call('HSET', key, 'state', 'aggregating')
  else
    redis.pcall('LPUSH', Q .. 'pending', id)
    redis.call('HSET', key, 'state', 'pending', 'pending_since', now_ns())
  end
end

-- Looks at a successor: whether its holder still runs. If that waits, because a Go worker or its
-- recoverer let it, it gives way.
local function look_after(id)
  local task = redis.pcall('HMGET', Q .. 't:' .. id, 'state', 'x_after')
  if task.err or task[1] ~= 'scheduled' or not task[2] then
    redis.pcall('ZREM', Q .. 'x:after', id)
    return
  end
  local holder = task[2]
  local found = redis.pcall('HMGET', Q .. 't:' .. holder, 'state', 'x_next')
  local its = not found.err and found[2] == id
  if its and found[1] == 'active' then
    redis.pcall('ZADD', Q .. 'x:after', whole(now_s), id)
    local score = redis.pcall('ZSCORE', Q .. 'scheduled', id)
    if type(score) ~= 'string' or tonumber(score) <= now_s + MOVED_ON_S then
      redis.pcall('ZADD', Q .. 'scheduled', whole(now_s + FOLLOWS_IN_S), id)
    end
    return
  end
  if its and (found[1] == 'pending' or found[1] == 'retry') then
    if found[1] == 'pending' then
      redis.pcall('LREM', Q .. 'pending', 0, holder)
    else
      redis.pcall('ZREM', Q .. 'retry', holder)
      redis.pcall('ZREM', Q .. 'x:due', holder)
      redis.pcall('ZREM', Q .. 'x:grouped', holder)
    end
    forget(holder)
  elseif its then
    redis.pcall('HDEL', Q .. 't:' .. holder, 'x_next')
  end
  succeed(holder, id)
end

-- Looks at the successors that were not looked at for longest.
local function look_after_all()
  local found = redis.pcall('ZRANGE', Q .. 'x:after', 0, MAX_LOOKED_AFTER - 1)
  if found.err or #found == 0 then return end
  -- A damaged key must not stop the rest of a script, nor lose a job.
  if type(redis.pcall('LLEN', Q .. 'pending')) ~= 'number' then return end
  for _, name in ipairs({'scheduled', 'retry', 'x:due'}) do
    if type(redis.pcall('ZCARD', Q .. name)) ~= 'number' then return end
  end
  for _, id in ipairs(found) do look_after(id) end
end
