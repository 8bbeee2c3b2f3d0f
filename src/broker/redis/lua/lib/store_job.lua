
-- Purpose: stores one new job as a whole or not at all; for the scripts that
-- make jobs. To be called after may_store() of all their jobs.
--
-- A job is nine values and its group: id, message, placement (now | after | at),
-- its microseconds, key of the unique lock or empty, microseconds of the lock,
-- key of the repeat guard or empty, digest of the request, microseconds of the
-- guard, name of the group or empty.
--
-- Returns  code, text, due in microseconds
--           1  pending             2  scheduled             5  in its group
--           0  the id is in use           -1  the lock is held; text = holder
--           3  answered before; text = id of the job stored then
--           4  the repeat guard belongs to another request
--
-- Differs from Asynq:
-- * lock and id are both tested before anything is written, so that an id
--   conflict leaves no lock behind; the order of the answers is the same;
-- * an id in use by the same bytes is success when the call is a repetition;
-- * a relative delay becomes a due time here, the exact due time is kept in
--   Q:x:due, and the score in Q:scheduled is rounded up instead of down;
-- * a scheduled job keeps its group in its hash, so that whoever forwards it puts
--   it there, and is noted in Q:x:grouped: a Go forwarder tells nobody of the group;
-- * the lock of a grouped job is in its hash too, for those who delete it.

local JOB = 10

-- When the job is due, at the earliest now.
local function due_at(placement, value)
  if placement == 'after' then return math.max(now, bounded(now + value)) end
  if placement == 'at' then return math.max(now, bounded(value)) end
  return now
end

-- Fails, before the first write, where a key that one of the jobs needs has another
-- type than the protocol's. The jobs' values are in these arguments.
local function may_store(first, last)
  -- A job by itself is looked at before it is written.
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

local function store(repeated, id, msg, placement, value, lock, lock_for, guard, digest,
    guard_for, group)
  local task, exact = Q .. 't:' .. id, Q .. 'x:due'
  local due = due_at(placement, value)
  local later = due > now
  -- An id in whose place something of another type lies is in use, as enqueue_now.lua and
  -- enqueue_later.lua say too; a job with a lock, guard or group is refused.
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
    if holder then return -1, holder, 0 end
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
  if lock ~= '' then
    set('unique_key', lock)
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

-- Stores the job whose values begin at this argument.
local function store_at(at, repeated)
  return store(repeated, ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]),
    ARGV[at + 4], tonumber(ARGV[at + 5]), ARGV[at + 6], ARGV[at + 7], tonumber(ARGV[at + 8]),
    ARGV[at + 9])
end
