-- Purpose: removes jobs that are done, and takes others in their place: what a worker
-- does nearly always, with what that needs alone. settle_and_dequeue.lua does the same and all
-- else; its files say what differs from Asynq.
--
-- KEYS[n]  Q:pending of each queue; on a Cluster there is one
-- ARGV[1]  now in microseconds, or empty: the time of this server
-- ARGV[2]  how many jobs to take at most
-- ARGV[3]  until when the caller waits for the answer, or empty
-- ARGV[4]  the owner: a number that no other call has
-- ARGV[5]  how many of the queues to take from; they come first, in the order in
--          which they are to give
-- ARGV[6…] per queue: how many jobs are done, their ids, and how many runs these are.
--          A run are jobs whose leases end one microsecond after another, in this order;
--          of each: how many jobs, their owner, the first and the last end as scores
--
-- Returns  now, 1 if it was too late to take jobs, how many were not the caller's any
--          more, the numbers of these among all that are done, then how many queues
--          gave something or are paused, and for each of these its number, 1 if it is
--          paused, and what dequeue.lua appends
--
-- That a lease with this very end is the caller's is not proved by its job's x_owner, as
-- in settle_and_dequeue.lua: no two owners have had the same end, and a look at each job would cost
-- as much as all that is done here.
--
-- It does without common.lua, whose functions cost more than the work here. What else
-- costs: to print a score (as much as three commands) or a number that is given to a
-- command, to read one, and tables that grow.

local try = pcall
local call, pcall, format, floor = redis.call, redis.pcall, string.format, math.floor
local SECOND = 1000000
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * SECOND + time[2]
end
local late = ARGV[3] ~= '' and now > tonumber(ARGV[3])
local left, owner, givers = tonumber(ARGV[2]), ARGV[4], late and 0 or tonumber(ARGV[5])

-- All is tested before the first write.
local answer = {now, late and 1 or 0, 0, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
  nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}
local last, plans, lines, at, before = 3, {}, 0, 6, 0
for nth = 1, #KEYS do
  local pending, done = KEYS[nth], tonumber(ARGV[at])
  local size = nth <= givers and left > 0 and call('LLEN', pending) or 0
  at = at + 1
  if size > 0 or done > 0 then
    local Q = string.sub(pending, 1, -8)
    local active, leases, T = Q .. 'active', Q .. 'lease', Q .. 't:'
    local oldest, ids, gone, number, waiting
    if done > 0 then
      oldest = call('LRANGE', active, '-' .. done, '-1')
      ids = {unpack(ARGV, at, at + done - 1)}
      gone = {unpack(ids)}
      at, number = at + done, 0
      local place, runs = 0, tonumber(ARGV[at])
      at = at + 1
      for run = 1, runs do
        local count, from = tonumber(ARGV[at]), place
        -- Leases of one queue end at different times: these jobs, if nothing else ends
        -- in between. No Go worker's does, which is a whole second.
        local held = call('ZRANGEBYSCORE', leases, ARGV[at + 2], ARGV[at + 3])
        -- One that was named before is not there twice: runs come in their order.
        local ours = #held == count and (run == 1 or ARGV[at + 2] ~= ARGV[at - 1])
        for one = 1, count do
          if held[one] ~= ids[from + one] then ours = false end
        end
        for one = 1, count do
          place = place + 1
          local id = ids[place]
          local task, mine = T .. id, ours
          if not mine then
            -- Perhaps extended meanwhile.
            local score, found = call('ZSCORE', leases, id), pcall('HMGET', task, 'state', 'x_owner')
            mine = found[1] == 'active' and found[2] == ARGV[at + 1]
            if score then
              -- As of_go() in common.lua.
              local ends = floor(score * SECOND + 0.5)
              local of_go = ends % SECOND == 0 and ends > 0 and ends < now + 3600 * SECOND
              mine = mine and not of_go
            else
              mine = mine and call('LPOS', active, id)
            end
            local named = false
            for other = 1, number do named = named or ids[other] == id end
            mine = mine and not named
            if found[1] == 'pending' and not named then
              -- As reclaimed() in common.lua.
              local mark = call('HMGET', task, 'x_reclaimed', 'pending_since')
              if mark[2] and mark[1] == ARGV[at + 1] .. ' ' .. mark[2]
                and call('LPOS', pending, id, 'RANK', '-1', 'MAXLEN', '1000') then
                mine, waiting = true, waiting or {}
                waiting[#waiting + 1] = id
              end
            end
          end
          if mine then
            number = number + 1
            ids[number], gone[number] = id, task
          else
            last = last + 1
            answer[3], answer[last] = answer[3] + 1, before + place
          end
        end
        at = at + 4
      end
      for place = done, number + 1, -1 do ids[place], gone[place] = nil, nil end
      before = before + done
    else
      at = at + 1
      call('LLEN', active)
      call('ZCARD', leases)
    end
    local paused = size > 0 and call('EXISTS', Q .. 'paused') == 1
    if size > 0 then
      lines = lines + 1
      if not paused then left = left - size end
    end
    plans[nth] = {Q, T, active, leases, oldest, size, paused, number, ids, gone,
      waiting}
  else
    at = at + 1
  end
end

-- As count_up() in settle.lua.
local function count(key, number)
  local sum = pcall('INCRBY', key, number)
  if type(sum) == 'number' then return sum end
  local value = pcall('GET', key)
  if type(value) == 'string' and string.match(value, '^%-?%d+$') then
    call('SET', key, number)
    return tonumber(number), true
  end
end

-- The days since the epoch as a date (Howard Hinnant).
local function today()
  local z = floor(now / 86400 / SECOND) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return format('processed:%04d-%02d-%02d', year, month, doy - floor((153 * mp + 2) / 5) + 1)
end

-- Removes jobs from the list of the active ones.
local function leave(active, oldest, ids, number)
  -- Those that were taken first are at the end and mostly end first: often these very
  -- jobs, which then leave at once.
  local there, others = {}, #oldest - number
  for nth = 1, number do
    if oldest[nth] ~= ids[number + 1 - nth] then others = 1 end
  end
  if others ~= 0 then
    local mine = {}
    for nth = 1, number do mine[ids[nth]] = true end
    others = #oldest - number
    for nth = 1, #oldest do
      local id = oldest[nth]
      if not mine[id] or there[id] then others = 1 end
      there[id] = true
    end
  end
  if others == 0 then return call('LTRIM', active, '0', format('-%d', number + 1)) end
  -- In a long list, a look at its end tells where a job is.
  local looks = call('LLEN', active) > 128 and 3 or -1
  for nth = 1, number do
    local id = ids[nth]
    local from_end = looks < 0 or there[id]
    if looks > 0 and not from_end then
      from_end = call('LPOS', active, id, 'RANK', '-1', 'MAXLEN', '64')
      looks = from_end and 3 or looks - 1
    end
    call('LREM', active, from_end and '-1' or '1', id)
  end
end

local day
for nth = 1, #KEYS do
  local plan = plans[nth]
  local number = plan and plan[8] or 0
  if number > 0 then
    local Q, ids = plan[1], plan[9]
    if plan[11] then
      for _, id in ipairs(plan[11]) do call('LREM', KEYS[nth], '-1', id) end
    end
    call('ZREM', plan[4], unpack(ids))
    leave(plan[3], plan[5], ids, number)
    call('DEL', unpack(plan[10]))
    day = day or today()
    local key, sum = Q .. day, format('%d', number)
    if count(key, sum) == number then
      call('EXPIREAT', key, format('%d', now / SECOND + 90 * 86400))
    end
    local _, anew = count(Q .. 'processed', sum)
    if anew and type(pcall('INCRBY', Q .. 'failed', 0)) == 'number' then
      call('SET', Q .. 'failed', '0')
    end
  end
end

-- Archives the job of a message of an Asynq before 0.18. Twin of the one in common.lua.
local function archive_old(Q, message)
  local ok, old = try(cjson.decode, message)
  local id = ok and type(old) == 'table' and old.ID
  if type(id) ~= 'string' or id == '' then id = redis.sha1hex(message) end
  if pcall('EXISTS', Q .. 't:' .. id) ~= 0 then return end
  call('HSET', Q .. 't:' .. id, 'msg', message, 'state', 'archived')
  pcall('ZADD', Q .. 'archived', format('%d', now / SECOND), id)
end

-- Takes jobs of the queue; how many.
local function take(nth, plan, room)
  local T, active, leases, paused = plan[2], plan[3], plan[4], plan[7]
  answer[last + 1], answer[last + 2] = nth, paused and 1 or 0
  local ids = not paused and room > 0 and call('RPOP', KEYS[nth], format('%d', room)) or {}
  local size, number = #ids, 0
  local tasks, keys = {unpack(ids)}, {unpack(ids)}
  for place = 1, size do
    local id = ids[place]
    local key = T .. id
    local task = pcall('HMGET', key, 'msg', 'x_lost', 'x_cancel', 'pending_since')
    if task[1] then
      number = number + 1
      ids[number], keys[number], tasks[number] = id, key, task
    elseif not task.err and string.sub(id, 1, 8) == '{"Type":' then
      archive_old(plan[1], id)
    elseif not task.err then
      call('DEL', key)
    end
  end
  for place = size, number + 1, -1 do ids[place] = nil end
  if number == 0 then
    answer[last + 3], answer[last + 4] = size, 0
    last = last + 4
    return 0
  end

  -- The first end of a lease that no other has, and none of them a whole second.
  local others = call('LPUSH', active, unpack(ids)) - number
  local ends = now + 30 * SECOND
  if ends % SECOND == 0 then ends = ends + 1 end
  local second, part = floor(ends / SECOND), ends % SECOND
  if others > 0 and call('ZCOUNT', leases, format('%d.%06d', second, part), '+inf') > 0 then
    local top = floor(call('ZREVRANGE', leases, '0', '0', 'WITHSCORES')[2] * SECOND + 0.5)
    if top < ends + SECOND then ends = top + 1 end
    if ends % SECOND == 0 then ends = ends + 1 end
    second, part = floor(ends / SECOND), ends % SECOND
  end
  -- Lists of the right length from the start.
  local seconds, scored = format('%d.', second), {unpack(ARGV, 1, 2 * number)}
  for place = 1, number do
    if part == SECOND then seconds, part = format('%d.', second + 1), 1 end
    scored[2 * place - 1], scored[2 * place] = seconds .. format('%06d', part), ids[place]
    part = part + 1
  end
  -- See add_leases() in dequeue.lua. A few were added as a list, and many may be one.
  local tree, added = others > 3 and others < 32, nil
  if others + number > 3 and not tree
    and (others == 0 or call('OBJECT', 'ENCODING', leases) ~= 'skiplist') then
    local long = string.rep('-', 65)
    added = call('ZADD', leases, '0', long, unpack(scored)) - 1
    call('ZREM', leases, long)
  else
    added = call('ZADD', leases, unpack(scored))
  end
  if added < number then
    -- An id was in line twice, or there was a lease left over: each is taken once.
    local seen, all = {}, number
    number = 0
    for place = 1, all do
      local id = ids[place]
      if seen[id] then
        call('LREM', active, '1', id)
      else
        seen[id] = true
        number = number + 1
        ids[number], keys[number], tasks[number] = id, keys[place], tasks[place]
        scored[2 * number] = id
      end
    end
    call('ZADD', leases, unpack(scored, 1, 2 * number))
  end

  answer[last + 3], answer[last + 4], answer[last + 5] = size - number, number, ends
  last = last + 5
  local past = {}
  for place = 1, number do
    local task, key = tasks[place], keys[place]
    call('HDEL', key, 'pending_since', 'x_progress')
    call('HSET', key, 'state', 'active', 'x_owner', owner)
    answer[last + 1], answer[last + 2], answer[last + 3] = ids[place], task[1], task[4] or ''
    last = last + 3
    if task[2] or task[3] then
      past[#past + 1] = {place, tonumber(task[2]) or 0, task[3] or '', key}
    end
  end
  last = last + 1
  answer[last] = #past
  for place = 1, #past do
    local one = past[place]
    if one[3] == 'retry' then
      -- The attempt of a Go worker that it was about has ended as it asks.
      call('HDEL', one[4], 'x_cancel')
      one[3] = ''
    end
    answer[last + 1], answer[last + 2], answer[last + 3] = one[1], one[2], one[3]
    last = last + 3
  end
  return number
end

last = last + 1
answer[last] = lines
local room = tonumber(ARGV[2])
for nth = 1, givers do
  local plan = plans[nth]
  if plan and plan[6] > 0 then room = room - take(nth, plan, room) end
end
return answer
