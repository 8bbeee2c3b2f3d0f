-- Purpose: removes jobs of one queue that are done, and takes others in their place:
-- what a worker does nearly always, with what that needs alone. exchange.lua does the
-- same and all else; its files say what differs from Asynq.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds, or empty: the time of this server
-- ARGV[2]  how many jobs to take at most
-- ARGV[3]  until when the caller waits for the answer, or empty
-- ARGV[4]  the owner: a number that no other call has
-- ARGV[5]  how many jobs are done; then their ids, then their owners, then the ends of
--          their leases in microseconds
--
-- Returns  now, 1 if it was too late to take jobs, how many were not the caller's any
--          more, the numbers of these, 1 if the queue is paused, and what deliver.lua
--          appends
--
-- It does without common.lua, whose functions cost more than the work here.

local call, format, SECOND = redis.call, string.format, 1000000
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end
local PENDING, Q = KEYS[1], string.sub(KEYS[1], 1, -8)
local T, ACTIVE, LEASES = Q .. 't:', Q .. 'active', Q .. 'lease'
local room, owner, done = tonumber(ARGV[2]), ARGV[4], tonumber(ARGV[5])
local late = ARGV[3] ~= '' and now > tonumber(ARGV[3])

-- All is tested before the first write.
local size, running = call('LLEN', PENDING), call('LLEN', ACTIVE)
local answer, last = {now, late and 1 or 0, 0}, 3
local ids, gone, seen, number = {}, {}, {}, 0
if done > 0 then
  local scores = call('ZMSCORE', LEASES, unpack(ARGV, 6, 5 + done))
  for nth = 1, done do
    local id, score = ARGV[5 + nth], scores[nth]
    local task, ours = T .. id, false
    if score then
      -- No two leases of a job end at the same time; another end may be ours as well,
      -- extended meanwhile. A whole second is a Go worker's.
      local ends = math.floor(tonumber(score) * SECOND + 0.5)
      ours = ends % SECOND ~= 0 and (ends == tonumber(ARGV[5 + 2 * done + nth])
        or call('HGET', task, 'x_owner') == ARGV[5 + done + nth])
    else
      local found = call('HMGET', task, 'state', 'x_owner')
      ours = found[1] == 'active' and found[2] == ARGV[5 + done + nth] and call('LPOS', ACTIVE, id)
    end
    if ours and not seen[id] then
      seen[id] = true
      number = number + 1
      ids[number], gone[number] = id, task
    else
      last = last + 1
      answer[3], answer[last] = answer[3] + 1, nth
    end
  end
else
  call('ZCARD', LEASES)
end
local paused = size > 0 and call('EXISTS', Q .. 'paused') == 1

if number > 0 then
  call('ZREM', LEASES, unpack(ids))
  -- Those that were taken first are at the end and mostly end first: often these very
  -- jobs, which then leave at once.
  local oldest, others = number > 1 and call('LRANGE', ACTIVE, -number, -1) or {}, 0
  local there = {}
  for _, id in ipairs(oldest) do
    if not seen[id] or there[id] then others = others + 1 end
    there[id] = true
  end
  if #oldest == number and others == 0 then
    call('RPOP', ACTIVE, number)
  else
    -- In a long list, a look at its end tells where a job is.
    local looks = running > 128 and 3 or -1
    for nth = 1, number do
      local from_end = looks < 0 or there[ids[nth]]
      if looks > 0 and not from_end then
        from_end = call('LPOS', ACTIVE, ids[nth], 'RANK', -1, 'MAXLEN', 64)
        looks = from_end and 3 or looks - 1
      end
      call('LREM', ACTIVE, from_end and -1 or 1, ids[nth])
    end
  end
  call('DEL', unpack(gone))
  -- The days since the epoch as a date (Howard Hinnant).
  local z = math.floor(now / 86400 / SECOND) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local today = format('%sprocessed:%04d-%02d-%02d', Q, year, month,
    doy - math.floor((153 * mp + 2) / 5) + 1)
  -- A counter that is full, or none, begins anew.
  local function count(key)
    local sum = redis.pcall('INCRBY', key, number)
    if type(sum) ~= 'number' then
      call('SET', key, number)
      sum = number
    end
    return sum
  end
  if count(today) == number then
    call('EXPIREAT', today, format('%d', now / SECOND + 90 * 86400))
  end
  count(Q .. 'processed')
end

last = last + 1
answer[last] = paused and 1 or 0
local line = not (late or paused) and size > 0 and room > 0 and call('RPOP', PENDING, room) or {}
local fresh, messages, since, past, broken = {}, {}, {}, {}, 0
number = 0
for nth = 1, #line do
  local id = line[nth]
  local task = redis.pcall('HMGET', T .. id, 'msg', 'x_lost', 'x_cancel', 'pending_since')
  if task.err or seen[id] then
    broken = broken + 1
  elseif not task[1] then
    call('DEL', T .. id)
    broken = broken + 1
  else
    number = number + 1
    fresh[number], messages[number], since[number] = id, task[1], task[4] or ''
    if task[2] or task[3] then past[#past + 1] = {number, tonumber(task[2]) or 0, task[3] or ''} end
    seen[id] = true
  end
end
answer[last + 1], answer[last + 2] = broken, number
last = last + 2
if number == 0 then return answer end

-- The first end of a lease that no other has, and none of them a whole second.
local ends = now + 30 * SECOND
local others = running - #gone
local top = others > 0 and call('ZREVRANGE', LEASES, 0, 0, 'WITHSCORES')[2]
top = top and math.floor(tonumber(top) * SECOND + 0.5) or 0
if top >= ends and top < ends + SECOND then ends = top + 1 end
if ends % SECOND == 0 then ends = ends + 1 end
last = last + 1
answer[last] = ends
local second, part, leases = math.floor(ends / SECOND), ends % SECOND, {}
local seconds = format('%d.', second)
for nth = 1, number do
  if part == SECOND then seconds, part = format('%d.', second + 1), 1 end
  local id = fresh[nth]
  local task = T .. id
  call('HDEL', task, 'pending_since', 'x_progress')
  call('HSET', task, 'state', 'active', 'x_owner', owner)
  leases[2 * nth - 1], leases[2 * nth] = seconds .. format('%06d', part), id
  part = part + 1
  answer[last + 1], answer[last + 2], answer[last + 3] = id, messages[nth], since[nth]
  last = last + 3
end
call('LPUSH', ACTIVE, unpack(fresh))
-- See add_leases() in deliver.lua.
if others + number > 3 and call('OBJECT', 'ENCODING', LEASES) ~= 'skiplist' then
  local long = string.rep('-', 65)
  call('ZADD', LEASES, 0, long, unpack(leases))
  call('ZREM', LEASES, long)
else
  call('ZADD', LEASES, unpack(leases))
end
answer[last + 1] = #past
for nth, one in ipairs(past) do
  local at = last + 3 * nth - 1
  if one[3] == 'retry' then
    -- The attempt of a Go worker that it was about has ended as it asks.
    call('HDEL', T .. fresh[one[1]], 'x_cancel')
    one[3] = ''
  end
  answer[at], answer[at + 1], answer[at + 2] = one[1], one[2], one[3]
end
return answer
