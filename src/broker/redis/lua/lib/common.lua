-- Purpose: the shared beginning of most scripts: the queue's prefix, the time, and small
-- helpers. scripts.rs puts the other files behind this one.
--
-- KEYS[1]  Q:pending. It selects the Cluster slot. A script builds every other key from the
--          prefix Q = asynq:{<queue>}:, so all of them are in the same slot.
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
--
-- Every script that begins with this file returns an array whose first value is `now` in
-- microseconds. docs/redis-data.md describes every key and field.
--
-- Differs from Asynq, whose scripts receive the time of the client's host: here leases and
-- due times do not depend on the clocks of the hosts.

local Q = string.sub(KEYS[1], 1, -8)
local SECOND = 1000000
local LEASE = 30 * SECOND
local DAYS_90 = 90 * 86400
-- The end of the year 9999 in seconds: what every reader's calendar can hold.
local LATEST = 253402300799

local now
if ARGV[1] == '' then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
else
  now = tonumber(ARGV[1])
end
local now_s = math.floor(now / SECOND)

-- A whole number as text, never with an exponent.
local function whole(number)
  return string.format('%d', number)
end

-- Whether an entry of a list is a job of an Asynq before 0.18, which wrote the whole message, as
-- JSON, where later versions write the id. Such an entry is never just removed: it is the job.
local function is_old(entry)
  return string.sub(entry, 1, 8) == '{"Type":'
end

-- The id of such a job: the one in the message, or the digest of a message without one, because
-- a message holds the payload.
local function old_id(message)
  local ok, old = pcall(cjson.decode, message)
  local id = ok and type(old) == 'table' and old.ID
  if type(id) ~= 'string' or id == '' then return redis.sha1hex(message) end
  return id
end

-- Archives a job of an Asynq before 0.18. Returns its id, or nil if that id exists already: then
-- Asynq's own migration came first. Twin of archive_old() in finish_and_dequeue.lua.
local function archive_old(message)
  local id = old_id(message)
  if redis.pcall('EXISTS', Q .. 't:' .. id) ~= 0 then return nil end
  redis.call('HSET', Q .. 't:' .. id, 'msg', message, 'state', 'archived')
  redis.pcall('ZADD', Q .. 'archived', whole(now_s), id)
  return id
end

-- Microseconds as seconds with six decimals.
local function seconds(micros)
  return string.format('%d.%06d', math.floor(micros / SECOND), micros % SECOND)
end

-- A score in seconds as microseconds; the inverse of seconds(). Infinite scores become the
-- largest allowed value, because no integer can hold them.
local function micros(score)
  local exact = math.floor(tonumber(score) * SECOND + 0.5)
  return math.max(-LATEST * SECOND, math.min(exact, LATEST * SECOND))
end

-- The whole second that stands for a due time in Q:scheduled and Q:retry. It is rounded up,
-- so that nobody who reads whole seconds starts the job early.
local function shown(due)
  return math.ceil(due / SECOND)
end

-- A due time limited to the calendar: other scores cannot be converted to an integer.
local function bounded(due)
  return math.max(0, math.min(due, LATEST * SECOND))
end

-- Now in nanoseconds, the unit of pending_since.
local function now_ns()
  return whole(now) .. '000'
end

-- The end of a lease of ours, in microseconds: never a whole second, which marks the lease
-- of a Go worker.
local function fractional(ends)
  if ends % SECOND == 0 then return ends + 1 end
  return ends
end

-- The first end, in microseconds, that no other lease of this queue has. Leases given in the
-- same microsecond differ in the last digits, so they expire in the order they were given.
local function first_end()
  local ends = fractional(now + LEASE)
  local top = redis.call('ZREVRANGE', Q .. 'lease', 0, 0, 'WITHSCORES')[2]
  local last = top and micros(top) or 0
  if last >= ends and last < ends + SECOND then ends = last + 1 end
  return ends
end

-- Whether the score of a lease is a Go worker's: a whole second that the clock of a host may
-- show. Such a clock may be wrong by minutes. A score more than an hour ahead, or before
-- 1970, is damage and does not tell who has the job.
local AHEAD = 3600 * SECOND
local function of_go(score)
  local ends = micros(score)
  return ends % SECOND == 0 and ends > 0 and ends < now + AHEAD
end

-- Whether the caller may settle, extend or write to a job with this state and x_owner.
--
-- `owner` is the number under which the caller dequeued the job. It suffices, whatever the
-- lease's score is now, unless that is a Go worker's. Without a number (the caller found an
-- expired lease) the lease must still end at `ends`. If the lease entry is missing, the job
-- has to be in active: an entry can get lost, finished work should not.
-- `score` may pass the score of the lease, false if there is none.
local function held(id, owner, ends, state, x_owner, score)
  if state ~= 'active' then return false end
  if score == nil then score = redis.call('ZSCORE', Q .. 'lease', id) end
  if owner == '' then return score and micros(score) == ends end
  if x_owner ~= owner then return false end
  if score then return not of_go(score) end
  return redis.call('LPOS', Q .. 'active', id) ~= false
end

-- Whether this job is pending because it was recovered from this owner, whose lease had
-- expired, and nobody has dequeued or moved it since. x_reclaimed holds that owner and the
-- pending_since which the recovery wrote. Recovery puts the job at the tail of the list, so
-- only this many jobs there are searched.
local NEXT_IN_LINE = 1000
local function reclaimed(id, owner, state)
  if state ~= 'pending' or owner == '' then return false end
  local task = redis.call('HMGET', Q .. 't:' .. id, 'x_reclaimed', 'pending_since')
  if not task[2] or task[1] ~= owner .. ' ' .. task[2] then return false end
  return redis.call('LPOS', Q .. 'pending', id, 'RANK', -1, 'MAXLEN', NEXT_IN_LINE) ~= false
end

-- Keys that expire. Redis deletes them by its own clock. Tests use a manual clock that Redis
-- does not know; then Q:x:ends holds the end in microseconds too.
local MANUAL = ARGV[1] ~= ''
local function set_until(key, value, ends)
  local ttl = math.max(1, math.ceil((ends - now) / SECOND))
  redis.call('SET', key, value, 'EX', whole(ttl))
  if MANUAL then redis.call('ZADD', Q .. 'x:ends', whole(ends), key) end
end
local function get_until(key)
  local value = redis.call('GET', key)
  if value and MANUAL then
    local ends = redis.call('ZSCORE', Q .. 'x:ends', key)
    if ends and tonumber(ends) <= now then return false end
  end
  return value
end

-- The value of a unique lock is the id of its job. This before it marks a lock that ends only
-- with its time: nothing that happens to the job releases it.
local TIMED = 'x:expiry:'
local function holder_of(value)
  if string.sub(value, 1, #TIMED) == TIMED then return string.sub(value, #TIMED + 1) end
  return value
end

-- A write that changes nothing. When memory is full, Redis refuses growing commands only
-- until the script has written once. What a worker needs to finish its jobs must not be
-- refused, so this write comes first.
local function before_growth()
  redis.call('DEL', Q .. 'x:nothing')
end

-- Each raises an error if a key is of another type than the protocol's. Call them before the
-- first write: Redis does not roll back a script.
local function expect_lists(...)
  for _, name in ipairs({...}) do redis.call('LLEN', Q .. name) end
end
local function expect_zsets(...)
  for _, name in ipairs({...}) do redis.call('ZCARD', Q .. name) end
end

-- Tells all processes if this job is due before every other job of the queue.
local function wake_if_first(id)
  if redis.call('ZRANGE', Q .. 'x:due', 0, 0)[1] == id then
    redis.pcall('PUBLISH', 'asynq:x:wake', string.sub(Q, 8, -3))
  end
end

-- YYYY-MM-DD in UTC. The algorithm is days_from_civil's inverse by Howard Hinnant: 719468
-- days lie between 0000-03-01 and 1970, 146097 days make an era of 400 years.
local function utc_day(secs)
  local z = math.floor(secs / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400
  if month <= 2 then year = year + 1 end
  return string.format('%04d-%02d-%02d', year, month, day)
end

-- Releases the unique lock of a job if the job still holds it. Nothing here may raise an
-- error, because it runs between writes.
local function release(id)
  local lock = redis.pcall('HGET', Q .. 't:' .. id, 'unique_key')
  if type(lock) == 'string' and string.sub(lock, 1, #Q) == Q
    and redis.pcall('GET', lock) == id then
    redis.call('DEL', lock)
  end
end

-- Lets a job that has left Q:scheduled wait for no limit any more. Nothing here may raise an error.
local function stop_waiting(id)
  if redis.pcall('ZREM', Q .. 'x:held', id) ~= 1 then return end
  local x_wait = redis.pcall('HGET', Q .. 't:' .. id, 'x_wait')
  local pair = type(x_wait) == 'string' and string.match(x_wait, '^%d+:(.+)$')
  if pair then redis.pcall('ZREM', Q .. 'x:lim:wait:' .. pair, id) end
end

-- Archives a waiting job that has left its list, because it did not start in time or makes room
-- for a newer one. No attempt is counted. Its lock is released, unless that ends only with its
-- time: the job keeps nobody else out. A field that is appended to a protobuf message replaces an
-- earlier one; 58 is the tag of error_msg. The janitor trims the archive. Nothing here may raise
-- an error. Twin of expire() in finish_and_dequeue.lua.
local function archive_unrun(id, message, reason)
  local task = Q .. 't:' .. id
  release(id)
  redis.call('HSET', task, 'msg', message .. '\58' .. string.char(#reason) .. reason, 'state',
    'archived')
  redis.call('HDEL', task, 'pending_since', 'x_unlock', 'x_start_by', 'x_wait', 'x_cancel',
    'x_reclaimed', 'x_after', 'x_then')
  redis.pcall('ZREM', Q .. 'x:start_by', id)
  redis.pcall('ZADD', Q .. 'archived', whole(now_s), id)
end

-- Whether a job with this x_start_by may not start any more, and can be archived: if that key is
-- damaged, a late job is better than a lost one.
local function is_expired(start_by)
  local at = start_by and tonumber(start_by)
  return at and at <= now and type(redis.pcall('ZCARD', Q .. 'archived')) == 'number'
end

-- Deletes a job's hash and its lock.
local function forget(id)
  release(id)
  redis.call('DEL', Q .. 't:' .. id)
end

-- Maximum number of archived jobs that one call deletes, so that it does not block the
-- server. The janitor (trim_archive.lua) deletes the rest.
local trim_left = 300

-- Deletes archived jobs older than `age` seconds, and the oldest beyond `most` - 1. Call it
-- before a job is added, so that this job cannot be the one that is deleted. Returns the
-- number of deleted jobs.
local function make_room(most, age)
  local archived = Q .. 'archived'
  local old = redis.call('ZCOUNT', archived, '-inf', whole(now_s - age))
  local excess = math.max(old, redis.call('ZCARD', archived) + 1 - most)
  excess = math.min(excess, trim_left)
  if excess < 1 then return 0 end
  local ids = redis.call('ZRANGE', archived, 0, excess - 1)
  for _, id in ipairs(ids) do
    redis.call('ZREM', archived, id)
    forget(id)
  end
  trim_left = trim_left - #ids
  return #ids
end

