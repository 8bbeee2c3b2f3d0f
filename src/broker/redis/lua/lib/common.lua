-- Purpose: what every queue script begins with. The other files are appended to it.
--
-- KEYS[1]  Q:pending; it names the slot. Every other key a script touches is
--          built from its prefix Q = asynq:{<queue>}: and lies in the same slot.
-- ARGV[1]  now in microseconds, or empty: the time of this server.
--
-- Unlike Asynq, whose scripts take the time of the client's host: leases and due
-- times must not depend on it.

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

-- Archives the job of this message, which an Asynq before 0.18 wrote where later ones
-- have the id: under its own id, which is returned, unless Asynq's own migration has been
-- here before. A message holds the payload, so one without an id goes by its digest.
-- Twin of the one in finish_and_dequeue.lua.
local function archive_old(message)
  local ok, old = pcall(cjson.decode, message)
  local id = ok and type(old) == 'table' and old.ID
  if type(id) ~= 'string' or id == '' then id = redis.sha1hex(message) end
  if redis.pcall('EXISTS', Q .. 't:' .. id) ~= 0 then return nil end
  redis.call('HSET', Q .. 't:' .. id, 'msg', message, 'state', 'archived')
  redis.pcall('ZADD', Q .. 'archived', whole(now_s), id)
  return id
end

-- Microseconds as seconds with six decimals.
local function seconds(micros)
  return string.format('%d.%06d', math.floor(micros / SECOND), micros % SECOND)
end

-- A score in seconds as microseconds; the inverse of seconds(). Infinite scores become
-- the largest ones, because no integer holds them.
local function micros(score)
  local exact = math.floor(tonumber(score) * SECOND + 0.5)
  return math.max(-LATEST * SECOND, math.min(exact, LATEST * SECOND))
end

-- The whole second a due time is shown as: never earlier than it is.
local function shown(due)
  return math.ceil(due / SECOND)
end

-- Scores beside the calendar would not survive the way into an integer.
local function bounded(due)
  return math.max(0, math.min(due, LATEST * SECOND))
end

-- The current instant as Asynq's pending_since: nanoseconds.
local function now_ns()
  return whole(now) .. '000'
end

-- Never a whole second: that is how a Go worker's lease is known.
local function fractional(ends)
  if ends % SECOND == 0 then return ends + 1 end
  return ends
end

-- The first end of a lease of this queue that no other has: they differ in the
-- last digits, so that leases run out in the order they were given.
local function first_end()
  local ends = fractional(now + LEASE)
  local top = redis.call('ZREVRANGE', Q .. 'lease', 0, 0, 'WITHSCORES')[2]
  local last = top and micros(top) or 0
  if last >= ends and last < ends + SECOND then ends = last + 1 end
  return ends
end

-- Whether a lease's score is a Go worker's: a whole second that a host's clock may show.
-- Go's hosts may be wrong by minutes; what is further ahead, or before 1970, is damage,
-- which says nothing about who has the job.
local AHEAD = 3600 * SECOND
local function of_go(score)
  local ends = micros(score)
  return ends % SECOND == 0 and ends > 0 and ends < now + AHEAD
end

-- Whether the caller may end, extend or write to this job, whose state and
-- x_owner these are. An owner is known by the number it took the job under,
-- whatever its lease's score is by now, unless that is a Go worker's. Without a number, as for who found the lease run out, it has
-- to be that very lease. A lease entry can get lost; the work should not. The
-- lease's score may be given, false where there is none.
local function held(id, owner, ends, state, x_owner, score)
  if state ~= 'active' then return false end
  if score == nil then score = redis.call('ZSCORE', Q .. 'lease', id) end
  if owner == '' then return score and micros(score) == ends end
  if x_owner ~= owner then return false end
  if score then return not of_go(score) end
  return redis.call('LPOS', Q .. 'active', id) ~= false
end

-- Whether this job, of this state, waits to be taken as it was recovered from this owner,
-- whom the lease ran out under: nobody else has had it since, nor moved it. x_reclaimed
-- says whose it was, and in which pending_since that left it. Recovery makes it the
-- next in line, hence it is looked for there.
local NEXT_IN_LINE = 1000
local function reclaimed(id, owner, state)
  if state ~= 'pending' or owner == '' then return false end
  local task = redis.call('HMGET', Q .. 't:' .. id, 'x_reclaimed', 'pending_since')
  if not task[2] or task[1] ~= owner .. ' ' .. task[2] then return false end
  return redis.call('LPOS', Q .. 'pending', id, 'RANK', -1, 'MAXLEN', NEXT_IN_LINE) ~= false
end

-- Keys that expire. The server's clock ends them; under a manual clock, which it
-- does not know, Q:x:ends does as well.
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

-- A write that changes nothing. Redis refuses growing commands under memory
-- pressure only while a script has not written yet; what a worker needs to
-- finish and drain must not be refused.
local function before_growth()
  redis.call('DEL', Q .. 'x:nothing')
end

-- Fail, before the first write, where a key has another type than the protocol's.
local function expect_lists(...)
  for _, name in ipairs({...}) do redis.call('LLEN', Q .. name) end
end
local function expect_zsets(...)
  for _, name in ipairs({...}) do redis.call('ZCARD', Q .. name) end
end

-- Tells all processes that a job is due earlier than any was before.
local function wake_if_first(id)
  if redis.call('ZRANGE', Q .. 'x:due', 0, 0)[1] == id then
    redis.pcall('PUBLISH', 'asynq:x:wake', string.sub(Q, 8, -3))
  end
end

-- YYYY-MM-DD in UTC (days to civil, Howard Hinnant).
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

-- Releases the unique lock of a job, where it is still this job's. Nothing here
-- may fail: it runs between writes.
local function release(id)
  local lock = redis.pcall('HGET', Q .. 't:' .. id, 'unique_key')
  if type(lock) == 'string' and string.sub(lock, 1, #Q) == Q
    and redis.pcall('GET', lock) == id then
    redis.call('DEL', lock)
  end
end

-- Deletes a job and its lock.
local function forget(id)
  release(id)
  redis.call('DEL', Q .. 't:' .. id)
end

-- How many archived jobs one call may delete: it must not block the server. What
-- is left over is the janitor's.
local trim_left = 300

-- Deletes archived jobs that are too old, or too many where one more is to come.
-- To be called before that one is added, so that it cannot be the one to go.
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

