-- Purpose: stores new jobs of one queue that are due later and have no unique lock,
-- idempotency key or group. Fast path of enqueue.lua; tests/it/twins.rs holds the two equal.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  how often this call was sent before without an answer; 0 the first time
-- ARGV[3…] four values per job: id, message, after | at, microseconds of the delay or instant
--
-- Returns  now, then two values per job: code and due time in microseconds
--           2  scheduled      1  pending: it is due already      0  the id is in use
--           5  in its group (only in a repetition)
--
-- Order of effects: Asynq writes the hash, then Q:scheduled. The same here for several jobs,
-- after a test of all keys; a single job goes to the sorted sets first, which fail before
-- anything is written if a key is of another type. store_job.lua lists the differences.
--
-- It does not use common.lua: defining its functions costs more than the work here.

local call, format, SECOND = redis.call, string.format, 1000000
-- The end of the year 9999: the last instant that every reader's calendar can hold.
local LATEST = 253402300799 * SECOND
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end
local Q, repeated = string.sub(KEYS[1], 1, -8), ARGV[2] ~= '0'
local T, EXACT, SCHEDULED = Q .. 't:', Q .. 'x:due', Q .. 'scheduled'

if #ARGV == 6 and not repeated then
  -- A single job, the most frequent call. If a key is of another type, the first write
  -- fails and nothing has been changed.
  local id, due = ARGV[3], tonumber(ARGV[6])
  if ARGV[5] == 'after' then due = now + due end
  if due > LATEST then due = LATEST elseif due < now then due = now end
  local task = T .. id
  if call('EXISTS', task) == 1 then
    -- Raises the same errors as the general part below.
    if due == now then
      call('LLEN', KEYS[1])
    else
      call('ZCARD', SCHEDULED)
      call('ZCARD', EXACT)
    end
    return {now, 0, due}
  end
  if due == now then
    call('LPUSH', KEYS[1], id)
    call('HSET', task, 'msg', ARGV[4], 'state', 'pending', 'pending_since', format('%d000', now))
    return {now, 1, due}
  end
  local exact = format('%d', due)
  local earlier = call('ZCOUNT', EXACT, '-inf', exact)
  -- Rounded up, so that nobody who reads whole seconds starts it early.
  call('ZADD', SCHEDULED, format('%d', math.ceil(due / SECOND)), id)
  call('ZADD', EXACT, exact, id)
  call('HSET', task, 'msg', ARGV[4], 'state', 'scheduled')
  if earlier == 0 then
    redis.pcall('PUBLISH', 'asynq:x:wake', string.sub(Q, 8, -3))
  end
  return {now, 2, due}
end

local function due_at(at)
  local due = tonumber(ARGV[at + 3])
  if ARGV[at + 2] == 'after' then due = now + due end
  if due > LATEST then return LATEST elseif due < now then return now end
  return due
end

-- Every key is tested before the first write.
local dues, any_now, first, any_later = {}, false, nil, false
for at = 3, #ARGV, 4 do
  local due = due_at(at)
  dues[at] = due
  if due > now then any_later = true else any_now = true end
end
if any_now then call('LLEN', KEYS[1]) end
if any_later then
  call('ZCARD', SCHEDULED)
  first = call('ZRANGE', EXACT, '0', '0', 'WITHSCORES')[2]
end
-- Tables of the final size from the start: growing them costs more.
local answer = {now, unpack(ARGV, 3, 2 + (#ARGV - 2) / 2)}
local later, exact = {unpack(ARGV, 3)}, {unpack(ARGV, 3)}
local last, size, ready, earliest = 1, 0, {}, nil
-- Due times of jobs stored by this call, in case an id is named twice.
local stored = {}
for at = 3, #ARGV, 4 do
  local id, due, code = ARGV[at], dues[at], 0
  local task = T .. id
  if call('EXISTS', task) == 0 then
    if due > now then
      code = 2
      call('HSET', task, 'msg', ARGV[at + 1], 'state', 'scheduled')
      -- Rounded up, so that nobody who reads whole seconds starts it early.
      later[size + 1], later[size + 2] = format('%d', math.ceil(due / SECOND)), id
      exact[size + 1], exact[size + 2] = format('%d', due), id
      size = size + 2
      if repeated then stored[id] = due end
      if not earliest or due < earliest then earliest = due end
    else
      code = 1
      call('HSET', task, 'msg', ARGV[at + 1], 'state', 'pending', 'pending_since',
        format('%d000', now))
      ready[#ready + 1] = id
    end
  elseif repeated and redis.pcall('HGET', task, 'msg') == ARGV[at + 1] then
    -- The earlier sending stored it.
    local score, state = redis.pcall('ZSCORE', EXACT, id), call('HGET', task, 'state')
    due = stored[id] or type(score) == 'string' and tonumber(score) or due
    code = state == 'scheduled' and 2 or state == 'aggregating' and 5 or 1
  end
  answer[last + 1], answer[last + 2] = code, due
  last = last + 2
end

if earliest then
  call('ZADD', SCHEDULED, unpack(later, 1, size))
  call('ZADD', EXACT, unpack(exact, 1, size))
end
if #ready > 0 then call('LPUSH', KEYS[1], unpack(ready)) end
-- Tells all processes if a job is due before every other job of the queue.
if earliest and (not first or earliest < tonumber(first)) then
  redis.pcall('PUBLISH', 'asynq:x:wake', string.sub(Q, 8, -3))
end
return answer
