-- Purpose: stores one new job completely or not at all, for every script that creates jobs.
--
-- Call may_store() for all jobs of the call first; then store_at() once per job.
--
-- A job is eleven arguments: id; message; placement (now | after | at); microseconds of the
-- placement (a delay, or an instant); key of the unique lock or empty; microseconds the lock
-- is held after the due time; key of the idempotency record or empty; digest of the request;
-- microseconds the idempotency record is kept; group or empty; when the lock ends: success |
-- start | expiry.
--
-- Returns  code, text, due time in microseconds
--           1  stored: pending       2  stored: scheduled       5  stored: in its group
--           0  the id is in use
--          -1  the unique lock is held; text = id of the holder
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
--   its time is named neither in the message nor in the hash, and its value is marked.

-- Number of arguments per job.
local JOB = 11

-- When the job is due, in microseconds; never before now.
local function due_at(placement, value)
  if placement == 'after' then return math.max(now, bounded(now + value)) end
  if placement == 'at' then return math.max(now, bounded(value)) end
  return now
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
    local group, later = ARGV[at + 9], due_at(ARGV[at + 2], tonumber(ARGV[at + 3])) > now
    if later then
      expect_zsets('scheduled', 'x:due')
    elseif group == '' then
      expect_lists('pending')
    end
    if group ~= '' then
      expect_zsets('x:grouped', 'g:' .. group)
      redis.call('SCARD', Q .. 'groups')
    end
  end
end

-- Stores one job and returns code, text and due time; see the header.
local function store(repeated, id, msg, placement, value, lock, lock_for, guard, digest,
    guard_for, group, lock_ends)
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
    return codes[found[2]] or 1, '', known
  end
  if guard ~= '' then
    local before = get_until(guard)
    if before then
      local separator = string.find(before, ':', 1, true) or 0
      if string.sub(before, 1, separator - 1) ~= digest then return 4, '', 0 end
      return 3, string.sub(before, separator + 1), 0
    end
  end
  if lock ~= '' then
    local holder = get_until(lock)
    if holder then return -1, holder_of(holder), 0 end
  end
  if redis.call('EXISTS', task) == 1 then return 0, '', 0 end

  local state = later and 'scheduled' or group ~= '' and 'aggregating' or 'pending'
  local fields = {'msg', msg, 'state', state}
  local function set(name, text)
    fields[#fields + 1] = name
    fields[#fields + 1] = text
  end
  if state == 'pending' then set('pending_since', now_ns()) end
  if group ~= '' then set('group', group) end
  if lock ~= '' and lock_ends == 'expiry' then
    set_until(lock, TIMED .. id, due + lock_for)
  elseif lock ~= '' then
    set('unique_key', lock)
    if lock_ends == 'start' then set('x_unlock', lock) end
    set_until(lock, id, due + lock_for)
  end
  if guard ~= '' then set_until(guard, digest .. ':' .. id, now + guard_for) end
  redis.call('HSET', task, unpack(fields))
  if state == 'pending' then
    redis.call('LPUSH', Q .. 'pending', id)
    return 1, '', due
  end
  if state == 'aggregating' then
    redis.call('ZADD', Q .. 'g:' .. group, whole(now_s), id)
    redis.call('SADD', Q .. 'groups', group)
    return 5, '', due
  end
  redis.call('ZADD', Q .. 'scheduled', whole(shown(due)), id)
  redis.call('ZADD', exact, whole(due), id)
  if group ~= '' then redis.call('ZADD', Q .. 'x:grouped', whole(shown(due)), id) end
  wake_if_first(id)
  return 2, '', due
end

-- Stores the job whose values begin at argument `at`.
local function store_at(at, repeated)
  return store(repeated, ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]),
    ARGV[at + 4], tonumber(ARGV[at + 5]), ARGV[at + 6], ARGV[at + 7], tonumber(ARGV[at + 8]),
    ARGV[at + 9], ARGV[at + 10])
end
