-- Purpose: dequeues pending jobs of one queue, each under a lease. may_deliver() tests,
-- deliver() writes. finish_and_dequeue.lua has a fast twin of this code.
--
-- Order of effects: Asynq moves one id from pending to active, writes state, removes
-- pending_since, writes the lease, reads the message. Here: read all messages, RPOP, DEL of
-- stubs, LPUSH to active, per job HDEL and HSET, then all leases. Differences:
-- * several jobs at a time, all read before the first write;
-- * pop before push, so that workers can drain a server whose memory is full;
-- * x_owner records who has the job. The score of the lease has six decimals and is never a
--   whole second: a whole second marks the lease of a Go worker;
-- * nothing is dequeued for a caller whose deadline has passed: the jobs would wait for a lease
--   that nobody holds. Jobs whose delivery got lost on the way to the caller are delivered
--   again before new ones;
-- * a job that must have started by an instant that has passed (x_start_by) is archived;
-- * an id without message is dropped together with its stub hash instead of staying active.
--   An id whose key is of another type is dropped alone. An id that is itself a message, as
--   Asynq before 0.18 wrote it, is archived: see forward_due.lua.

-- The newest active jobs are at the head. A delivery whose reply was lost is searched among
-- this many.
local NEWEST = 500

-- Returns how many pending jobs this queue has, whether it is paused, and whether it has limits.
-- `more` is whether settling may add some. Raises an error if a key that deliver() writes is of
-- another type.
local function may_deliver(unconfirmed, more)
  local size = redis.call('LLEN', Q .. 'pending')
  if size == 0 and more then size = 1 end
  if size == 0 and unconfirmed == '' then return 0, false, false end
  expect_lists('active')
  expect_zsets('lease')
  if redis.call('EXISTS', Q .. 'paused', Q .. 'x:limits') == 0 then return size, false, false end
  local limited = redis.call('EXISTS', Q .. 'x:limits') == 1
  if limited then limits().test() end
  if redis.call('EXISTS', Q .. 'paused') == 1 then return 0, true, limited end
  return size, false, limited
end

-- Adds leases: scores and ids in turn. Redis stores a short sorted set as a flat list, walks
-- it for each new entry and parses every score on the way, which takes 14 us for each of a
-- hundred leases. An entry longer than 64 bytes converts it to a skip list, which it stays
-- until it is empty. 6 = three leases: fewer are not worth the two extra commands.
local LONG = string.rep('-', 65)
local function add_leases(leases)
  local key = Q .. 'lease'
  if #leases > 6 and redis.call('OBJECT', 'ENCODING', key) ~= 'skiplist' then
    redis.call('ZADD', key, 0, LONG)
    redis.call('ZADD', key, unpack(leases))
    redis.call('ZREM', key, LONG)
  else
    redis.call('ZADD', key, unpack(leases))
  end
end

-- Step 1: finds jobs whose earlier delivery was lost with its reply: they are active under
-- one of these owners. Adds them to `ids`, `tasks` and `seen`, at most `most`.
local function find_unconfirmed(most, unconfirmed, ids, tasks, seen)
  local T, earlier = Q .. 't:', {}
  for word in string.gmatch(unconfirmed, '%S+') do earlier[word] = true end
  for _, id in ipairs(redis.call('LRANGE', Q .. 'active', 0, NEWEST - 1)) do
    if #ids == most then break end
    local task = redis.pcall('HMGET', T .. id, 'msg', 'x_lost', 'x_cancel', 'state', 'x_owner')
    if task[1] and earlier[task[5]] and held(id, task[5], 0, task[4], task[5]) then
      ids[#ids + 1], tasks[#tasks + 1] = id, task
      seen[id] = true
    end
  end
end

-- Step 2: reads the next `room` pending jobs and removes them from the list. Adds them to
-- `ids`, `tasks` and `seen`. Broken entries are dropped; returns their number, the number of jobs
-- that expired, and the ids of jobs of an old Asynq that were archived.
local function pop_pending(room, ids, tasks, seen)
  local PENDING, T, broken, stubs, old, late = Q .. 'pending', Q .. 't:', 0, {}, {}, {}
  local line = room > 0 and redis.call('LRANGE', PENDING, -room, -1) or {}
  for at = #line, 1, -1 do
    local id = line[at]
    local task = redis.pcall('HMGET', T .. id, 'msg', 'x_lost', 'x_cancel', 'pending_since',
      'x_unlock', 'x_start_by')
    if seen[id] or task.err then
      broken = broken + 1
    elseif not task[1] then
      if is_old(id) then
        old[#old + 1] = id
      else
        broken = broken + 1
        stubs[#stubs + 1] = T .. id
      end
    elseif is_expired(task[6]) then
      late[#late + 1] = {id, task[1]}
    else
      ids[#ids + 1], tasks[#tasks + 1] = id, task
    end
    seen[id] = true
  end

  if #line > 0 then redis.call('RPOP', PENDING, #line) else before_growth() end
  if #stubs > 0 then redis.call('DEL', unpack(stubs)) end
  for _, one in ipairs(late) do archive_unrun(one[1], one[2], 'expired') end
  local archived = {}
  for _, message in ipairs(old) do
    local id = archive_old(message)
    if id then archived[#archived + 1] = id else broken = broken + 1 end
  end
  return broken, #late, archived
end

-- Maximum jobs that one call takes out of the list of a queue with limits: each that has no room
-- is moved to where it waits.
local MAX_POPPED = 200

-- As pop_pending() for a queue with limits: only jobs with room, which take their places. Error
-- codes of Redis cannot occur: see limits.lua.
local function pop_limited(room, ids, tasks, seen)
  local T, broken, late, archived, popped = Q .. 't:', 0, 0, {}, 0
  local full, tools = #ids + room, limits()
  before_growth()
  while #ids < full and popped < MAX_POPPED do
    local id = redis.call('RPOP', Q .. 'pending')
    if not id then break end
    popped = popped + 1
    local task = redis.pcall('HMGET', T .. id, 'msg', 'x_lost', 'x_cancel', 'pending_since',
      'x_unlock', 'x_start_by', 'x_wait')
    if seen[id] or task.err then
      broken = broken + 1
    elseif task[1] and is_expired(task[6]) then
      late = late + 1
      seen[id] = true
      archive_unrun(id, task[1], 'expired')
      tools.decline(task[1])
    elseif task[1] then
      if tools.admits(id, task[1], task[7]) then
        ids[#ids + 1], tasks[#tasks + 1] = id, task
        seen[id] = true
      end
    elseif is_old(id) then
      local known = archive_old(id)
      if known then archived[#archived + 1] = known else broken = broken + 1 end
    else
      broken = broken + 1
      redis.call('DEL', T .. id)
    end
  end
  return broken, late, archived
end

-- Releases the lock of a job, which ends at its start. Twin of unlock() in
-- finish_and_dequeue.lua.
local function unlock(id, key, lock)
  redis.call('HDEL', key, 'x_unlock')
  if string.sub(lock, 1, #Q) == Q and redis.pcall('GET', lock) == id then
    redis.call('DEL', lock)
  end
end

-- Step 3: writes the jobs as active under this owner and appends them to `answer`, whose last
-- value is the number of jobs. The first `again` jobs are unconfirmed and active already.
-- Returns the leases (scores and ids in turn) and the cancel requests and losses to report.
local function activate(ids, tasks, again, owner, answer)
  local T, number, last = Q .. 't:', #ids, #answer
  -- If no other job is active, no other lease can be in the way.
  local others = again
  if number > again then
    others = redis.call('LPUSH', Q .. 'active', unpack(ids, again + 1)) - number + again
  end
  local ends = fractional(others > 0 and first_end() or now + LEASE)
  last = last + 1
  answer[last] = ends
  local leases, past = {}, {}
  for nth = 1, number do
    ends = fractional(ends)
    local id, task = ids[nth], tasks[nth]
    local key, losses, request = T .. id, task[2], task[3]
    if nth > again then
      -- This request was for the attempt of a Go worker, which has ended since.
      if request == 'retry' then
        redis.call('HDEL', key, 'x_cancel')
        request = nil
      end
      redis.call('HDEL', key, 'pending_since', 'x_progress')
      if task[5] then unlock(id, key, task[5]) end
      if task[6] then
        -- It has started.
        redis.call('HDEL', key, 'x_start_by')
        redis.pcall('ZREM', Q .. 'x:start_by', id)
      end
    end
    redis.call('HSET', key, 'state', 'active', 'x_owner', owner)
    leases[2 * nth - 1] = seconds(ends)
    ends = ends + 1
    leases[2 * nth] = id
    answer[last + 1], answer[last + 2] = id, task[1]
    answer[last + 3] = nth > again and task[4] or ''
    last = last + 3
    if losses or task[3] then past[#past + 1] = {nth, tonumber(losses) or 0, request or ''} end
  end
  return leases, past
end

-- Dequeues at most `most` jobs and returns how many. Appends to `answer`:
--   number of broken entries that were dropped, or if jobs were archived an array of this
--   number, the number of jobs that expired, and the ids of jobs of an old Asynq; number of jobs
--   that follow;
--   if there are jobs: the end of the first lease in microseconds. Each following lease ends
--   one microsecond later, or two if that would be a whole second;
--   three values per job: id, message, pending_since or empty;
--   number of jobs with a past; three values for each: its number among these jobs, x_lost,
--   x_cancel or empty.
local function deliver(most, paused, limited, owner, unconfirmed, answer)
  local ids, tasks, seen = {}, {}, {}
  if unconfirmed ~= '' then find_unconfirmed(most, unconfirmed, ids, tasks, seen) end
  local again = #ids
  local pop = limited and pop_limited or pop_pending
  local broken, late, archived = pop(paused and 0 or most - again, ids, tasks, seen)
  if late + #archived > 0 then broken = {broken, late, unpack(archived)} end
  local number = #ids
  local last = #answer + 2
  answer[last - 1], answer[last] = broken, number
  if number == 0 then return 0 end
  local leases, past = activate(ids, tasks, again, owner, answer)
  add_leases(leases)
  last = #answer + 1
  answer[last] = #past
  for nth, one in ipairs(past) do
    local at = last + 3 * nth - 2
    answer[at], answer[at + 1], answer[at + 2] = one[1], one[2], one[3]
  end
  return number
end
