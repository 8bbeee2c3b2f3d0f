-- Purpose: deletes jobs that are done and dequeues new ones, in one round trip. Fast path of
-- settle_and_dequeue.lua for what a worker nearly always does; tests/it/twins.rs holds the two
-- equal.
--
-- KEYS[n]  Q:pending of each queue; in a Cluster there is exactly one
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of jobs to dequeue
-- ARGV[3]  microsecond until which the caller waits for the answer, or empty
-- ARGV[4]  owner: a number that no other call has
-- ARGV[5]  number of queues to dequeue from. They come first in KEYS, in the order in which
--          they are tried
-- ARGV[6…] per queue: number of done jobs, their ids, number of runs, then four values per
--          run. A run is a series of jobs whose leases end one microsecond after another, in
--          this order; its values are: number of jobs, owner, first and last end as scores
--          (seconds with six decimals)
--
-- Returns  now; 1 if the caller's time was over, so that nothing was dequeued; number of
--          done jobs that are not the caller's any more; their numbers among all done jobs;
--          number of queues that follow. A queue follows if it had pending jobs: its number
--          in KEYS, 1 if it is paused plus 2 if it has limits, then what deliver() in dequeue.lua
--          appends. From a queue with limits nothing is dequeued here
--
-- Order of effects and differences from Asynq: see settle.lua and dequeue.lua; only here the
-- leases are written before the hashes. Unlike settle_and_dequeue.lua this script does not
-- compare x_owner with the caller if the end of the lease is exactly the caller's: no two
-- owners ever had the same end, and reading every hash would cost as much as everything else
-- here.
--
-- It does not use common.lua, whose functions cost more than the work here. Measured costs
-- that shape this code: formatting a score (as much as three commands), passing a number to
-- a command, parsing one, tables that grow, and each function that is defined. What a queue has
-- only at times (pauses, limits, jobs that expire) is asked for with one command for all of it.

local try = pcall
local call, pcall, format, floor = redis.call, redis.pcall, string.format, math.floor
local SECOND = 1000000
local LEASE = 30 * SECOND
local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * SECOND + time[2]
end
local late = ARGV[3] ~= '' and now > tonumber(ARGV[3])
local most, owner, givers = tonumber(ARGV[2]), ARGV[4], late and 0 or tonumber(ARGV[5])

-- What is to be done in a queue is its plan:
--   prefix  asynq:{<queue>}:            tasks   prefix of the jobs' hashes
--   active  key of the active list      leases  key of the leases
--   oldest  ids at the tail of active: as many as jobs are done
--   size    number of pending jobs, 0 if none are wanted
--   paused  whether the queue is paused     limited  whether it has limits
--   timed   whether some of its jobs expire unless they start in time
--   number  number of done jobs that are the caller's; ids and hashes are their ids and keys
--   waiting ids among them that a recovery made pending, or false
local plans = {}

-- The answer, with room for what a small call returns: growing a table costs more. `last` is
-- its last slot in use; slot 3 counts the done jobs that are not the caller's.
local answer = {now, late and 1 or 0, 0, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
  nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil}
local last = 3

-- Step 1: read and test everything, before the first write.

-- Whether the job is still this owner's although no lease has exactly the given end: the
-- lease was extended meanwhile, or lost. The second value is true if a recovery made the job
-- pending. As held() and reclaimed() in common.lua.
local function still_owned(pending, plan, task, id, its_owner)
  local score, found = call('ZSCORE', plan.leases, id), pcall('HMGET', task, 'state', 'x_owner')
  if found[1] == 'pending' then
    local mark = call('HMGET', task, 'x_reclaimed', 'pending_since')
    local recovered = mark[2] and mark[1] == its_owner .. ' ' .. mark[2]
      and call('LPOS', pending, id, 'RANK', '-1', 'MAXLEN', '1000')
    return recovered, recovered
  end
  if found[1] ~= 'active' or found[2] ~= its_owner then return false end
  if not score then return call('LPOS', plan.active, id) end
  -- As of_go() in common.lua.
  local ends = floor(score * SECOND + 0.5)
  return not (ends % SECOND == 0 and ends > 0 and ends < now + 3600 * SECOND)
end

-- Reads the `done` jobs whose ids begin at argument `at`. Those that are the caller's go into
-- the plan, the numbers of the others into the answer; `before` jobs belong to earlier
-- queues. Returns the argument after them.
local function read_done(pending, plan, at, done, before)
  local T, leases = plan.tasks, plan.leases
  plan.oldest = call('LRANGE', plan.active, '-' .. done, '-1')
  -- Tables of the final size from the start.
  local ids = {unpack(ARGV, at, at + done - 1)}
  local hashes = {unpack(ids)}
  local place, number = 0, 0
  at = at + done
  local runs = tonumber(ARGV[at])
  at = at + 1
  for run = 1, runs do
    local count, from = tonumber(ARGV[at]), place
    -- Leases of one queue end at different times. So these are exactly the jobs of the run if
    -- no other lease ends in between; no Go worker's does, because it is a whole second.
    local leased = call('ZRANGEBYSCORE', leases, ARGV[at + 2], ARGV[at + 3])
    -- Runs come in their order, so a lease that an earlier run named is not there again.
    local exact = #leased == count and (run == 1 or ARGV[at + 2] ~= ARGV[at - 1])
    for one = 1, count do
      if leased[one] ~= ids[from + one] then exact = false end
    end
    for one = 1, count do
      place = place + 1
      local id = ids[place]
      local task, mine = T .. id, exact
      if not mine then
        local named, recovered = false, nil
        for other = 1, number do named = named or ids[other] == id end
        if not named then
          mine, recovered = still_owned(pending, plan, task, id, ARGV[at + 1])
          if recovered then
            local waiting = plan.waiting or {}
            waiting[#waiting + 1] = id
            plan.waiting = waiting
          end
        end
      end
      if mine then
        number = number + 1
        ids[number], hashes[number] = id, task
      else
        last = last + 1
        answer[3], answer[last] = answer[3] + 1, before + place
      end
    end
    at = at + 4
  end
  for gap = done, number + 1, -1 do ids[gap], hashes[gap] = nil, nil end
  plan.number, plan.ids, plan.hashes = number, ids, hashes
  return at
end

-- `left`: how many jobs are still wanted. `lines`: number of queues that the answer lists.
local left, lines, at, before = most, 0, 6, 0
for nth = 1, #KEYS do
  local pending, done = KEYS[nth], tonumber(ARGV[at])
  local size = nth <= givers and left > 0 and call('LLEN', pending) or 0
  at = at + 1
  if size > 0 or done > 0 then
    local Q = string.sub(pending, 1, -8)
    local plan = {prefix = Q, tasks = Q .. 't:', active = Q .. 'active', leases = Q .. 'lease',
      oldest = false, size = size, paused = false, limited = false, timed = false, number = 0,
      ids = false, hashes = false, waiting = false}
    if done > 0 then
      at = read_done(pending, plan, at, done, before)
      before = before + done
    else
      at = at + 1
      call('LLEN', plan.active)
      call('ZCARD', plan.leases)
    end
    if size > 0 then
      lines = lines + 1
      local some = call('EXISTS', Q .. 'paused', Q .. 'x:limits', Q .. 'x:start_by')
      if some > 0 then
        local timed = call('EXISTS', Q .. 'x:start_by')
        plan.timed = timed == 1
        plan.paused = some > timed and call('EXISTS', Q .. 'paused') == 1
        plan.limited = some > timed and call('EXISTS', Q .. 'x:limits') == 1
      end
      if not plan.paused and not plan.limited then left = left - size end
    end
    plans[nth] = plan
  else
    at = at + 1
  end
end

-- Step 2: delete the done jobs and count them.

-- Adds to a counter. Twin of count_up() in settle.lua.
local function count(key, number)
  local sum = pcall('INCRBY', key, number)
  if type(sum) == 'number' then return sum end
  local value = pcall('GET', key)
  if type(value) == 'string' and string.match(value, '^%-?%d+$') then
    call('SET', key, number)
    return tonumber(number), true
  end
end

-- Name of today's counter. Twin of utc_day() in common.lua.
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

-- Removes jobs from the active list. `oldest` is its tail, as long as the call named jobs.
local function leave(active, oldest, ids, number)
  -- The oldest jobs are at the tail and mostly end first. Often the tail is exactly these
  -- jobs (others = 0), and one LTRIM removes all of them.
  local there, others = {}, #oldest - number
  for nth = 1, number do
    if oldest[nth] ~= ids[number + 1 - nth] then others = 1 end
  end
  if others ~= 0 then
    -- The same jobs in another order.
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
  -- Otherwise one by one. In a list longer than 128, LPOS looks at its last 64 entries and
  -- decides from which end LREM walks; after three failed looks it gives up.
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
  local number = plan and plan.number or 0
  if number > 0 then
    local Q, ids = plan.prefix, plan.ids
    if plan.waiting then
      for _, id in ipairs(plan.waiting) do call('LREM', KEYS[nth], '-1', id) end
    end
    call('ZREM', plan.leases, unpack(ids))
    leave(plan.active, plan.oldest, ids, number)
    call('DEL', unpack(plan.hashes))
    day = day or today()
    local key, sum = Q .. day, format('%d', number)
    if count(key, sum) == number then
      -- Daily counters are kept for 90 days.
      call('EXPIREAT', key, format('%d', now / SECOND + 90 * 86400))
    end
    local _, restarted = count(Q .. 'processed', sum)
    if restarted and type(pcall('INCRBY', Q .. 'failed', 0)) == 'number' then
      call('SET', Q .. 'failed', '0')
    end
  end
end

-- Step 3: dequeue.

-- Archives a job of an Asynq before 0.18. Twin of archive_old() in common.lua.
local function archive_old(Q, message)
  local ok, old = try(cjson.decode, message)
  local id = ok and type(old) == 'table' and old.ID
  if type(id) ~= 'string' or id == '' then id = redis.sha1hex(message) end
  if pcall('EXISTS', Q .. 't:' .. id) ~= 0 then return nil end
  call('HSET', Q .. 't:' .. id, 'msg', message, 'state', 'archived')
  pcall('ZADD', Q .. 'archived', format('%d', now / SECOND), id)
  return id
end

-- Archives a job that did not start in time; false if it still may start. Twin of is_expired() and
-- archive_unrun() in common.lua.
local function expire(Q, id, key, message, start_by)
  local at = tonumber(start_by)
  if not at or at > now or type(pcall('ZCARD', Q .. 'archived')) ~= 'number' then return false end
  local lock = pcall('HGET', key, 'unique_key')
  if type(lock) == 'string' and string.sub(lock, 1, #Q) == Q and pcall('GET', lock) == id then
    call('DEL', lock)
  end
  call('HSET', key, 'msg', message .. '\58\7expired', 'state', 'archived')
  call('HDEL', key, 'pending_since', 'x_unlock', 'x_start_by', 'x_wait', 'x_cancel', 'x_reclaimed')
  pcall('ZREM', Q .. 'x:start_by', id)
  pcall('ZADD', Q .. 'archived', format('%d', now / SECOND), id)
  return true
end

-- Pops up to `room` jobs. Returns their ids, hash keys and fields; their number; how many
-- entries were popped, which includes the broken ones that were dropped; the number of jobs that
-- expired. If jobs of an old Asynq were archived, also their ids.
local function pop(pending, plan, room)
  local T, timed = plan.tasks, plan.timed
  local ids = call('RPOP', pending, format('%d', room)) or {}
  local size, number, late, archived, expired = #ids, 0, 0, nil, nil
  -- Tables of the final size from the start.
  local tasks, keys = {unpack(ids)}, {unpack(ids)}
  for place = 1, size do
    local id = ids[place]
    local key = T .. id
    local task = timed
      and pcall('HMGET', key, 'msg', 'x_lost', 'x_cancel', 'pending_since', 'x_unlock', 'x_start_by')
      or pcall('HMGET', key, 'msg', 'x_lost', 'x_cancel', 'pending_since', 'x_unlock')
    if task[1] and task[6] and expire(plan.prefix, id, key, task[1], task[6]) then
      late = late + 1
      expired = expired or {}
      expired[id] = true
    elseif expired and expired[id] then
      -- It was pending twice: archived above.
    elseif task[1] then
      number = number + 1
      ids[number], keys[number], tasks[number] = id, key, task
    elseif not task.err and string.sub(id, 1, 8) == '{"Type":' then
      id = archive_old(plan.prefix, id)
      archived = archived or {}
      if id then archived[#archived + 1] = id end
    elseif not task.err then
      call('DEL', key)
    end
  end
  for place = size, number + 1, -1 do ids[place] = nil end
  return ids, keys, tasks, number, size, late, archived
end

-- The end of the first lease, in microseconds: no other lease has it, and it is never a whole
-- second. Twin of first_end() in common.lua. `others` jobs are active already.
local function first_end(leases, others)
  local ends = now + LEASE
  if ends % SECOND == 0 then ends = ends + 1 end
  if others == 0 then return ends end
  local score = format('%d.%06d', floor(ends / SECOND), ends % SECOND)
  if call('ZCOUNT', leases, score, '+inf') > 0 then
    local top = floor(call('ZREVRANGE', leases, '0', '0', 'WITHSCORES')[2] * SECOND + 0.5)
    if top < ends + SECOND then ends = top + 1 end
    if ends % SECOND == 0 then ends = ends + 1 end
  end
  return ends
end

-- Writes the leases of these jobs, the first of which ends at `ends`. Returns the number of
-- jobs that are left: an id that was pending twice is dequeued once.
local function add_leases(plan, ids, keys, tasks, number, others, ends)
  -- Scores and ids in turn, in a table of the final size from the start. Each lease ends one
  -- microsecond after the one before, or two if that would be a whole second. The second is
  -- formatted only when it changes.
  local second, part = floor(ends / SECOND), ends % SECOND
  local seconds, scored = format('%d.', second), {unpack(ARGV, 1, 2 * number)}
  for place = 1, number do
    if part == SECOND then seconds, part = format('%d.', second + 1), 1 end
    scored[2 * place - 1], scored[2 * place] = seconds .. format('%06d', part), ids[place]
    part = part + 1
  end

  -- Like add_leases() in dequeue.lua this makes a short sorted set a skip list, if there are
  -- more than three leases. With 4 to 31 others the set is assumed to be one already, because
  -- this script made it one; a wrong guess is cheap. Fewer are a flat list, and with more a
  -- wrong guess is expensive, so OBJECT ENCODING tells.
  local leases, assumed, added = plan.leases, others > 3 and others < 32, nil
  if others + number > 3 and not assumed
    and (others == 0 or call('OBJECT', 'ENCODING', leases) ~= 'skiplist') then
    local long = string.rep('-', 65)
    added = call('ZADD', leases, '0', long, unpack(scored)) - 1
    call('ZREM', leases, long)
  else
    added = call('ZADD', leases, unpack(scored))
  end
  if added == number then return number end

  -- An id was pending twice, or an old lease was left over: keep one of each and write the
  -- leases again.
  local seen, all = {}, number
  number = 0
  for place = 1, all do
    local id = ids[place]
    if seen[id] then
      call('LREM', plan.active, '1', id)
    else
      seen[id] = true
      number = number + 1
      ids[number], keys[number], tasks[number] = id, keys[place], tasks[place]
      scored[2 * number] = id
    end
  end
  call('ZADD', leases, unpack(scored, 1, 2 * number))
  return number
end

-- Writes the hashes of the dequeued jobs and appends to the answer three values per job, then
-- the number of jobs with a past, then three values for each.
local function activate(Q, ids, keys, tasks, number)
  local past = {}
  for place = 1, number do
    local task, key = tasks[place], keys[place]
    call('HDEL', key, 'pending_since', 'x_progress')
    local lock = task[5]
    if lock then
      -- It ends at the start of the job. Twin of unlock() in dequeue.lua.
      call('HDEL', key, 'x_unlock')
      if string.sub(lock, 1, #Q) == Q and pcall('GET', lock) == ids[place] then call('DEL', lock) end
    end
    if task[6] then
      -- It has started.
      call('HDEL', key, 'x_start_by')
      pcall('ZREM', Q .. 'x:start_by', ids[place])
    end
    call('HSET', key, 'state', 'active', 'x_owner', owner)
    answer[last + 1], answer[last + 2], answer[last + 3] = ids[place], task[1], task[4] or ''
    last = last + 3
    if task[2] or task[3] then
      past[#past + 1] = {place, tonumber(task[2]) or 0, task[3] or ''}
    end
  end
  last = last + 1
  answer[last] = #past
  for nth = 1, #past do
    local place, losses, request = unpack(past[nth])
    if request == 'retry' then
      -- This request was for the attempt of a Go worker, which has ended since.
      call('HDEL', keys[place], 'x_cancel')
      request = ''
    end
    answer[last + 1], answer[last + 2], answer[last + 3] = place, losses, request
    last = last + 3
  end
end

-- Dequeues up to `room` jobs of a queue and returns how many.
local function take(nth, plan, room)
  answer[last + 1] = nth
  answer[last + 2] = (plan.paused and 1 or 0) + (plan.limited and 2 or 0)
  if plan.paused or plan.limited or room == 0 then
    answer[last + 3], answer[last + 4] = 0, 0
    last = last + 4
    return 0
  end
  local ids, keys, tasks, number, size, late, archived = pop(KEYS[nth], plan, room)
  local ends
  if number > 0 then
    local others = call('LPUSH', plan.active, unpack(ids)) - number
    ends = first_end(plan.leases, others)
    number = add_leases(plan, ids, keys, tasks, number, others, ends)
  end
  -- Entries without a job, as deliver() in dequeue.lua says it.
  local dropped = size - number
  if late > 0 or archived and #archived > 0 then
    local old = archived or {}
    dropped = {dropped - late - #old, late, unpack(old)}
  end
  answer[last + 3], answer[last + 4] = dropped, number
  last = last + 4
  if number == 0 then return 0 end
  last = last + 1
  answer[last] = ends
  activate(plan.prefix, ids, keys, tasks, number)
  return number
end

last = last + 1
answer[last] = lines
local room = most
for nth = 1, givers do
  local plan = plans[nth]
  if plan and plan.size > 0 then room = room - take(nth, plan, room) end
end
return answer
