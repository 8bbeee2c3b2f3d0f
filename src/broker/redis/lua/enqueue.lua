-- Purpose: stores new jobs of one queue. Each job as a whole or not at all.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  0, or how often this very call was sent before without an answer
-- ARGV[3…] per job nine values:
--          id, message, placement (now | after | at), its microseconds,
--          key of the unique lock or empty, microseconds of the lock,
--          key of the repeat guard or empty, digest of the request,
--          microseconds of the guard
--
-- Returns  now, then per job three values: code, text, due in microseconds
--           1  pending                     2  scheduled
--           0  the id is in use           -1  the lock is held; text = holder
--           3  answered before; text = id of the job stored then
--           4  the repeat guard belongs to another request
--
-- Differs from Asynq:
-- * lock and id are both tested before anything is written, so that an id
--   conflict leaves no lock behind; the order of the answers is the same;
-- * an id in use by the same bytes is success when the call is a repetition;
-- * a relative delay becomes a due time here, the exact due time is kept in
--   Q:x:due, and the score in Q:scheduled is rounded up instead of down.

local T, DUE = Q .. 't:', Q .. 'x:due'
local repeated = tonumber(ARGV[2]) > 0
expect_lists('pending')
expect_zsets('scheduled', 'x:due')

local function store(id, msg, placement, value, lock, lock_for, guard, digest, guard_for)
  local task = T .. id
  local due = now
  if placement == 'after' then due = bounded(now + value) end
  if placement == 'at' then due = bounded(value) end
  local later = due > now
  if not later then due = now end
  local found = redis.call('HMGET', task, 'msg', 'state')

  if repeated and found[1] == msg then
    local known = tonumber(redis.call('ZSCORE', DUE, id) or due)
    return found[2] == 'scheduled' and 2 or 1, '', known
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

  local fields = {'msg', msg, 'state', later and 'scheduled' or 'pending'}
  if not later then
    fields[#fields + 1] = 'pending_since'
    fields[#fields + 1] = now_ns()
  end
  if lock ~= '' then
    fields[#fields + 1] = 'unique_key'
    fields[#fields + 1] = lock
    set_until(lock, id, due + lock_for)
  end
  if guard ~= '' then set_until(guard, digest .. ':' .. id, now + guard_for) end
  redis.call('HSET', task, unpack(fields))
  if not later then
    redis.call('LPUSH', Q .. 'pending', id)
    return 1, '', due
  end
  redis.call('ZADD', Q .. 'scheduled', whole(shown(due)), id)
  redis.call('ZADD', DUE, whole(due), id)
  wake_if_first(id)
  return 2, '', due
end

local answer = {now}
for at = 3, #ARGV, 9 do
  local code, text, due = store(ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3]),
    ARGV[at + 4], tonumber(ARGV[at + 5]), ARGV[at + 6], ARGV[at + 7], tonumber(ARGV[at + 8]))
  answer[#answer + 1] = code
  answer[#answer + 1] = text
  answer[#answer + 1] = due
end
return answer
