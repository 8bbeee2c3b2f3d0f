-- Purpose: stores one new job completely or not at all, for every script that creates jobs.
--
-- Call may_store() for all jobs of the call first; then store_at() once per job.
--
-- A job is fourteen arguments: id; message; placement (now | after | at); microseconds of the
-- placement (a delay, or an instant); key of the unique lock or empty; microseconds the lock
-- is held after the due time; key of the idempotency record or empty; digest of the request;
-- microseconds the idempotency record is kept; group or empty; when the lock ends: success |
-- start | expiry; if the lock is held: reject | extend | replace:<number of bytes before the
-- id in the message>, or replace_job: the waiting job of this id becomes this one; microseconds after the due time by which it must have started, or empty;
-- how many jobs may wait in the queue, or empty: <refuse or drop_oldest>:<number>.
--
-- Returns  code, text, due time in microseconds
--           1  stored: pending       2  stored: scheduled       5  stored: in its group
--           0  the id is in use
--          -1  the unique lock is held; text = id of the holder
--           6 is another script's
--          11  there is no job to replace
--          12  the job to replace does not wait; text = its state
--          13  as many jobs wait as may
--           7  the holder's lock and due time were extended; text = its id
--           8, 9, 10  the holder was replaced, and is pending, scheduled or in its group;
--              text = its id
--           3  answered before; text = id of the job that the first request stored
--           4  the idempotency key belongs to a request with another digest
--
-- enqueue_now.lua and enqueue_later.lua are fast twins of this code for jobs without lock,
-- idempotency key and group.
--
-- Order of effects: Asynq sets the lock, tests the id, writes the hash, then the list or
-- sorted set. Differences:
-- * the lock and the id are both tested before the first write, so an id conflict leaves no
--   lock behind; a held lock still takes precedence over an id in use;
-- * an id that holds the same message counts as success when the call is a repetition;
-- * a relative delay becomes a due time here. Q:x:due keeps it exactly, and the score in
--   Q:scheduled is rounded up instead of down;
-- * a scheduled job keeps its group in its hash, so that every forwarder puts it there. It is
--   also noted in Q:x:grouped, because a Go forwarder does not add the group to Q:groups;
-- * the lock of a grouped job is in its hash too, so that a deletion can release it;
-- * a lock that ends at the start is in x_unlock too, which dequeue reads. One that ends with
--   its time is named in x_lock alone, which releases nothing, and its value is marked;
-- * Asynq refuses every job whose lock is held. A replaced job keeps its id, and its place if
--   it is pending;
-- * where the holder runs, a job that replaces it is kept as its successor: see successor.lua. A
--   further one replaces that;
-- * a job that must have started by an instant has that in x_start_by and in Q:x:start_by, from
--   which the janitor takes those that expired while their queue was not served.

-- Number of arguments per job.
local JOB = 14

-- When the job is due, in microseconds; never before now.
local function due_at(placement, value)
  if placement == 'after' then return math.max(now, bounded(now + value)) end
  if placement == 'at' then return math.max(now, bounded(value)) end
  return now
end

-- The job is archived if it has not started by this instant, in microseconds.
local function must_start_by(id, at)
  redis.call('HSET', Q .. 't:' .. id, 'x_start_by', whole(bounded(at)))
  redis.call('ZADD', Q .. 'x:start_by', whole(bounded(at)), id)
end

-- Raises an error if a key of another type is where this job may be.
local function may_leave(id)
  expect_lists('pending')
  expect_zsets('scheduled', 'retry', 'x:due', 'x:grouped', 'x:start_by', 'x:after')
  redis.call('SCARD', Q .. 'groups')
  local group = id and redis.pcall('HGET', Q .. 't:' .. id, 'group')
  if type(group) == 'string' and group ~= '' then expect_zsets('g:' .. group) end
end

-- The same for the holder of this lock.
local function may_replace(lock)
  local value = redis.call('GET', lock)
  may_leave(value and holder_of(value))
end

-- Whether the holder of a lock waits, so that another job may take its place: 'waits', 'runs',
-- 'ended' (or it is gone), or false if it is being aggregated, is not where it should be or is
-- another job of that id, which does not name the lock; without a lock that is not asked. Also
-- returns its state, group, pending_since and successor.
local function find_holder(id, lock, timed)
  local task = redis.pcall('HMGET', Q .. 't:' .. id, 'state', 'group', 'pending_since',
    timed and 'x_lock' or 'unique_key', 'x_next')
  if task.err then return false end
  local state, group = task[1], task[2] or ''
  local found = false
  if not state or state == 'archived' or state == 'completed' then
    found = 'ended'
  elseif state == 'pending' then
    found = 'waits'
  elseif state == 'active' then
    found = 'runs'
  elseif state == 'scheduled' or state == 'retry' then
    found = redis.call('ZSCORE', Q .. state, id) and 'waits'
  elseif state == 'aggregating' then
    found = redis.call('ZSCORE', Q .. 'g:' .. group, id) and 'waits'
  end
  if (found == 'waits' or found == 'runs') and lock and task[4] ~= lock then found = false end
  return found, state, group, task[3], task[5]
end

-- Takes a waiting job out of its place.
local function leave_place(id, state, group)
  if state == 'pending' then
    redis.call('LREM', Q .. 'pending', 1, id)
  elseif state == 'aggregating' then
    redis.call('ZREM', Q .. 'g:' .. group, id)
    -- Readers expect jobs in a listed group.
    if redis.call('EXISTS', Q .. 'g:' .. group) == 0 then
      redis.call('SREM', Q .. 'groups', group)
    end
  else
    redis.call('ZREM', Q .. state, id)
    redis.call('ZREM', Q .. 'x:due', id)
    redis.call('ZREM', Q .. 'x:grouped', id)
    -- It does not wait for a limit any more.
    stop_waiting(id)
  end
end

-- Moves the end of the lock, and the due time of its holder if that is scheduled; neither to
-- an earlier time.
local function extend(lock, value, due, ends)
  local id, before = holder_of(value), nil
  if MANUAL then before = tonumber(redis.call('ZSCORE', Q .. 'x:ends', lock) or 0)
  else before = now + redis.call('PTTL', lock) * 1000 end
  if ends > before then set_until(lock, value, ends) end
  local found, state, group = find_holder(id, lock, id ~= value)
  if found ~= 'waits' or state ~= 'scheduled' then return end
  local score = tonumber(redis.call('ZSCORE', Q .. 'scheduled', id))
  local exact = tonumber(redis.call('ZSCORE', Q .. 'x:due', id) or -1)
  local known = shown(exact) == score and exact or score * SECOND
  if due <= known then return end
  -- One that waits for a limit is due already, as a pending one.
  local held = redis.pcall('ZSCORE', Q .. 'x:held', id)
  if type(held) == 'string' and tonumber(held) == score then return end
  redis.call('ZADD', Q .. 'scheduled', whole(shown(due)), id)
  redis.call('ZADD', Q .. 'x:due', whole(due), id)
  local start_by = tonumber(redis.call('HGET', Q .. 't:' .. id, 'x_start_by'))
  if start_by then must_start_by(id, start_by + due - known) end
  if group ~= '' then redis.call('ZADD', Q .. 'x:grouped', whole(shown(due)), id) end
end

-- What a job that replaces this one keeps of its x_wait (see limits.lua): all of it if it stays
-- pending, and its turn if it waited for a limit and is due.
local function turn_of(id, stays, later)
  local x_wait = redis.pcall('HGET', Q .. 't:' .. id, 'x_wait')
  if type(x_wait) ~= 'string' then return nil end
  if stays then return x_wait end
  local held = not later and redis.pcall('ZSCORE', Q .. 'x:held', id)
  return type(held) == 'string' and string.match(x_wait, '^%d+:')
end

-- The message with another id, which follows its first `before` bytes: field 3 of protobuf.
local function with_id(msg, before, old, id)
  local function field(text)
    local size, length = #text, ''
    while size >= 128 do
      length = length .. string.char(size % 128 + 128)
      size = math.floor(size / 128)
    end
    return '\26' .. length .. string.char(size) .. text
  end
  return string.sub(msg, 1, before) .. field(id) .. string.sub(msg, before + #field(old) + 1)
end

-- Raises an error, before the first write, if a key that one of these jobs needs is of
-- another type. The jobs are the arguments from `first` to `last`.
local function may_store(first, last)
  -- store() reads the keys of a single job before it writes, so only several are tested.
  local several = last - first > JOB
  for at = first, last, JOB do
    local special = ARGV[at + 4] ~= '' or ARGV[at + 6] ~= '' or ARGV[at + 9] ~= ''
    if several and special then redis.call('HLEN', Q .. 't:' .. ARGV[at]) end
    for _, key in ipairs({ARGV[at + 4], ARGV[at + 6]}) do
      if several and key ~= '' then redis.call('STRLEN', key) end
    end
    local conflict = ARGV[at + 11]
    if conflict == 'replace_job' then
      may_leave(ARGV[at])
    elseif ARGV[at + 4] ~= '' and conflict ~= 'reject' then
      may_replace(ARGV[at + 4])
    end
    local group, later = ARGV[at + 9], due_at(ARGV[at + 2], tonumber(ARGV[at + 3])) > now
    if later then
      expect_zsets('scheduled', 'x:due')
    elseif group == '' then
      expect_lists('pending')
    end
    if ARGV[at + 12] ~= '' then expect_zsets('x:start_by') end
    if ARGV[at + 13] ~= '' then
      expect_lists('pending')
      expect_zsets('scheduled', 'retry', 'archived', 'x:due', 'x:grouped', 'x:start_by', 'x:held')
    end
    if group ~= '' then
      expect_zsets('x:grouped', 'g:' .. group)
      redis.call('SCARD', Q .. 'groups')
    end
  end
end

-- The job that waits longest for a limit, and since when, in microseconds. The scores of Q:x:held
-- say which ones came or were moved on first; their turns decide among this many.
local LONGEST_HELD = 100
local function longest_held()
  local first, since
  for _, id in ipairs(redis.call('ZRANGE', Q .. 'x:held', 0, LONGEST_HELD - 1)) do
    local x_wait = redis.pcall('HGET', Q .. 't:' .. id, 'x_wait')
    local turn = type(x_wait) == 'string' and tonumber(string.match(x_wait, '^(%d+):'))
    if turn and (not since or turn < since)
      and redis.call('ZSCORE', Q .. 'scheduled', id) == redis.call('ZSCORE', Q .. 'x:held', id) then
      first, since = id, turn
    end
  end
  return first, since
end

-- Archives the job that waits longest: the next pending one or one that waits for a limit,
-- whichever became due first, else the one that is due first.
local function displace()
  local held, since = longest_held()
  local id = redis.call('LINDEX', Q .. 'pending', -1)
  local pending = held and id and redis.pcall('HGET', Q .. 't:' .. id, 'pending_since')
  if held and (not id or type(pending) == 'string' and since * 1000 <= (tonumber(pending) or 0)) then
    id = held
    leave_place(id, 'scheduled')
  elseif id then
    redis.call('RPOP', Q .. 'pending')
  end
  for _, source in ipairs({'scheduled', 'retry'}) do
    if not id then
      id = redis.call('ZRANGE', Q .. source, 0, 0)[1]
      if id then leave_place(id, source) end
    end
  end
  if not id then return end
  local message = redis.pcall('HGET', Q .. 't:' .. id, 'msg')
  if type(message) == 'string' then
    archive_unrun(id, message, 'displaced')
  elseif is_old(id) then
    archive_old(id)
  elseif not message then
    redis.call('DEL', Q .. 't:' .. id)
  end
end

-- Whether one more job may wait. If its bound says so, the oldest ones are archived for it.
local MAX_DISPLACED = 10
local function has_room(bound)
  local when_full, most = string.match(bound, '^([%a_]+):(%d+)$')
  local waiting = redis.call('LLEN', Q .. 'pending') + redis.call('ZCARD', Q .. 'scheduled')
    + redis.call('ZCARD', Q .. 'retry')
  local excess = waiting + 1 - tonumber(most)
  if excess < 1 then return true end
  if when_full == 'refuse' then return false end
  for _ = 1, math.min(excess, MAX_DISPLACED) do displace() end
  return true
end

-- Stores one job and returns code, text and due time; see the header.
local function store(repeated, id, msg, placement, value, lock, lock_for, guard, digest,
    guard_for, group, lock_ends, conflict, start_within, bound)
  local task, exact = Q .. 't:' .. id, Q .. 'x:due'
  local due = due_at(placement, value)
  local later = due > now
  -- An id whose key is of another type is in use, as in enqueue_now.lua and
  -- enqueue_later.lua. A job with a lock, idempotency key or group raises an error instead.
  local special = lock ~= '' or guard ~= '' or group ~= ''
  local found = (special and redis.call or redis.pcall)('HMGET', task, 'msg', 'state')

  if repeated and found[1] == msg then
    local score = redis.pcall('ZSCORE', exact, id)
    local known = type(score) == 'string' and tonumber(score) or due
    local codes = {scheduled = 2, aggregating = 5}
    -- One that waits for a limit counts as pending.
    local held = found[2] == 'scheduled' and redis.pcall('ZSCORE', Q .. 'x:held', id)
    return type(held) == 'string' and 1 or codes[found[2]] or 1, '', known
  end
  if guard ~= '' then
    local before = get_until(guard)
    if before then
      local separator = string.find(before, ':', 1, true) or 0
      if string.sub(before, 1, separator - 1) ~= digest then return 4, '', 0 end
      return 3, string.sub(before, separator + 1), 0
    end
  end
  local replaced, old_state, old_group, since, after
  local by_id = conflict == 'replace_job'
  if by_id then
    local found
    found, old_state, old_group, since = find_holder(id)
    if not old_state then return 11, '', 0 end
    if found ~= 'waits' then return 12, old_state, 0 end
    replaced = id
  end
  local value = lock ~= '' and get_until(lock)
  if by_id and value and holder_of(value) ~= id then
    return -1, holder_of(value), 0
  elseif value and not by_id then
    local holder = holder_of(value)
    local found, successor = false, nil
    if conflict ~= 'reject' then
      found, old_state, old_group, since, successor = find_holder(holder, lock, holder ~= value)
    end
    -- Of a job that has ended only the lock is left, which is taken over: else it would be
    -- extended for ever. A timed one lasts all the same.
    local is_left = found == 'ended' and holder == value
    if conflict == 'extend' and not is_left then
      extend(lock, value, due, due + lock_for)
      return 7, holder, due
    end
    if found == 'waits' then
      replaced = holder
    elseif found == 'runs' and holder == value and lock_ends ~= 'expiry' then
      after, old_state, old_group, since = holder, 'scheduled', '', nil
      if successor and follows(successor, holder) then replaced = successor end
    elseif not is_left then
      return -1, holder, 0
    end
  end
  if by_id then
    release(id)
  elseif replaced then
    msg = with_id(msg, tonumber(string.sub(conflict, 9)), id, replaced)
    id, task = replaced, Q .. 't:' .. replaced
  elseif redis.call('EXISTS', task) == 1 then
    return 0, '', 0
  end
  if not replaced and bound ~= '' and (later or group == '') and not has_room(bound) then
    return 13, '', 0
  end
  -- A pending job is due already, and keeps its place.
  local stays = replaced and old_state == 'pending' and group == ''
  if stays then later = false end

  local state = (later or after) and 'scheduled' or group ~= '' and 'aggregating' or 'pending'
  local fields = {'msg', msg, 'state', state}
  local function set(name, text)
    fields[#fields + 1] = name
    fields[#fields + 1] = text
  end
  if state == 'pending' then set('pending_since', stays and since or now_ns()) end
  if group ~= '' then set('group', group) end
  if after then
    set('x_after', after)
    set('x_then', table.concat({whole(due), whole(lock_for), lock_ends,
      start_within and whole(start_within) or '', lock}, ','))
  elseif lock ~= '' and lock_ends == 'expiry' then
    set('x_lock', lock)
    set_until(lock, TIMED .. id, due + lock_for)
  elseif lock ~= '' then
    set('unique_key', lock)
    if lock_ends == 'start' then set('x_unlock', lock) end
    set_until(lock, id, due + lock_for)
  end
  if guard ~= '' then set_until(guard, digest .. ':' .. id, now + guard_for) end
  local stored, text, turn = 0, '', nil
  if replaced then
    stored, text = 7, id
    turn = turn_of(id, stays, later)
    if not stays then leave_place(id, old_state, old_group) end
    -- Everything that the earlier job left: failures, losses, a result.
    redis.call('DEL', task)
  end
  redis.call('HSET', task, unpack(fields))
  if turn then redis.call('HSET', task, 'x_wait', turn) end
  if after then
    redis.call('HSET', Q .. 't:' .. after, 'x_next', id)
    redis.call('ZADD', Q .. 'x:after', whole(now_s), id)
    redis.call('ZADD', Q .. 'scheduled', whole(now_s + FOLLOWS_IN_S), id)
    return stored + 2, text, due
  end
  if start_within then must_start_by(id, due + start_within) end
  if stays then return 8, text, now end
  if state == 'pending' then
    redis.call('LPUSH', Q .. 'pending', id)
    return stored + 1, text, due
  end
  if state == 'aggregating' then
    redis.call('ZADD', Q .. 'g:' .. group, whole(now_s), id)
    redis.call('SADD', Q .. 'groups', group)
    return replaced and 10 or 5, text, due
  end
  redis.call('ZADD', Q .. 'scheduled', whole(shown(due)), id)
  redis.call('ZADD', exact, whole(due), id)
  if group ~= '' then redis.call('ZADD', Q .. 'x:grouped', whole(shown(due)), id) end
  wake_if_first(id)
  return stored + 2, text, due
end

-- Stores the job whose values begin at argument `at`.
local function store_at(at, repeated)
  return store(repeated, ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]),
    ARGV[at + 4], tonumber(ARGV[at + 5]), ARGV[at + 6], ARGV[at + 7], tonumber(ARGV[at + 8]),
    ARGV[at + 9], ARGV[at + 10], ARGV[at + 11], tonumber(ARGV[at + 12]),
    ARGV[at + 13])
end
