-- Purpose: stores new jobs of one queue that are due later and have no lock, repeat
-- guard or group.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds, or empty: the time of this server
-- ARGV[2]  0, or how often this very call was sent before without an answer
-- ARGV[3…] per job four values: id, message, after | at, microseconds
--
-- Returns  now, then per job two values: 2 (scheduled), 1 (pending, it is due already),
--          0 (the id is in use) or, of a repetition, 5 (in its group); and when it is due
--          in microseconds
--
-- It does without common.lua, as enqueue_now.lua does; store_job.lua says what differs from Asynq.

local call, format, SECOND = redis.call, string.format, 1000000
-- The end of the year 9999: what every reader's calendar can hold.
local LATEST = 253402300799 * SECOND
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end
local Q, repeated = string.sub(KEYS[1], 1, -8), ARGV[2] ~= '0'
local T, EXACT, SCHEDULED = Q .. 't:', Q .. 'x:due', Q .. 'scheduled'

if #ARGV == 6 and not repeated then
  -- A single one, as nearly always: the first write fails where the key is not what it
  -- should be, and nothing is left half done.
  local id, due = ARGV[3], tonumber(ARGV[6])
  if ARGV[5] == 'after' then due = now + due end
  if due > LATEST then due = LATEST elseif due < now then due = now end
  local task = T .. id
  if call('EXISTS', task) == 1 then
    -- Refused where the others below are.
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
  -- Rounded up: whoever reads whole seconds starts it no earlier than it is due.
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

-- All that is needed is tested before the first write.
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
-- Lists that are long enough from the start: to let them grow costs more.
local answer = {now, unpack(ARGV, 3, 2 + (#ARGV - 2) / 2)}
local later, exact = {unpack(ARGV, 3)}, {unpack(ARGV, 3)}
local last, size, ready, earliest = 1, 0, {}, nil
-- When those of this very call are due, where one is named twice.
local stored = {}
for at = 3, #ARGV, 4 do
  local id, due, code = ARGV[at], dues[at], 0
  local task = T .. id
  if call('EXISTS', task) == 0 then
    if due > now then
      code = 2
      call('HSET', task, 'msg', ARGV[at + 1], 'state', 'scheduled')
      -- Rounded up: whoever reads whole seconds starts it no earlier than it is due.
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
-- Tells all processes that a job is due earlier than any was before.
if earliest and (not first or earliest < tonumber(first)) then
  redis.pcall('PUBLISH', 'asynq:x:wake', string.sub(Q, 8, -3))
end
return answer
