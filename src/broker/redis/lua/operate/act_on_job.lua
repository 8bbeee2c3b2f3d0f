-- Purpose: moves or changes one job that is not active.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2…7]  see move_job.lua
-- ARGV[8]  states in which the action is allowed, each between commas
-- ARGV[9]  id
-- ARGV[10] how often this call was sent before without an answer; 0 the first time
-- ARGV[11] pending: approximate number of jobs that run before this one, or empty
-- ARGV[12] edit: the message that was read
-- ARGV[13] edit: the new message
--
-- Returns  now, code, state of the job before, due time in microseconds, number of pending
--          jobs
--           1  done                         0  no such job
--          -1  its state does not allow it
--          -2  not in the list that its state names: in an aggregation, or damaged
--          -3  the message has changed
--          -4  pending, but not found near either end nor near ARGV[11]: the caller has to
--              find its position page by page
--
-- Differs from Asynq:
-- * a job can be made the first pending one (run_next);
-- * a long pending list is not searched in one call, nor moved as a whole: from the middle
--   of more than 300,000 jobs one is removed by putting the newest job in its position;
-- * a new payload replaces exactly the message that was read, in any state.

local PENDING = KEYS[1]
-- NEAR: entries searched at each end of pending. BESIDE: entries searched on each side of the
-- position in ARGV[11]. MOVED: maximum entries that LREM may have to walk and move.
local NEAR, BESIDE, MOVED = 5000, 1000, 150000
local id, repeated = ARGV[9], tonumber(ARGV[10]) > 0

local task = redis.call('HMGET', T .. id, 'msg', 'state', 'group')
local state, group = task[2], task[3]
if not task[1] or not state then
  local gone = repeated
    and (ACTION == 'delete' or ACTION == 'run' or ACTION == 'run_next')
  return {now, gone and 1 or 0, '', 0, 0}
end
local function answer(code)
  return {now, code, state, due, redis.call('LLEN', PENDING)}
end
if repeated then
  if ACTION == 'run' and state == 'pending' then return answer(1) end
  if ACTION == 'archive' and state == 'archived' then return answer(1) end
  if ACTION == 'edit' and task[1] == ARGV[13] then return answer(1) end
end
if not string.find(ARGV[8], ',' .. state .. ',', 1, true) then return answer(-1) end

local from
if state ~= 'pending' then
  if state == 'aggregating' and not group then return answer(-2) end
  from = container(state, group)
  if not redis.call('ZSCORE', from, id) then return answer(-2) end
end
if ACTION == 'edit' then
  if task[1] ~= ARGV[12] then return answer(-3) end
  redis.call('HSET', T .. id, 'msg', ARGV[13])
  return answer(1)
end

if state == 'pending' then
  -- It is pending already, and the new due time is not later than now.
  if ACTION == 'reschedule' and due <= now then return answer(1) end
  local size = redis.call('LLEN', PENDING)
  -- Positions count from the tail, where the next job is: new jobs do not shift them.
  local place
  local function near(rank)
    local at = redis.call('LPOS', PENDING, id, 'RANK', rank, 'MAXLEN', NEAR)
    if at then place = size - 1 - at end
  end
  near(-1)
  if not place then near(1) end
  if not place and ARGV[11] ~= '' then
    local guess = tonumber(ARGV[11])
    local low = math.max(0, guess - BESIDE)
    local some = redis.call('LRANGE', PENDING, -(guess + BESIDE + 1), -(low + 1))
    for at, other in ipairs(some) do
      if other == id then place = low + #some - at end
    end
  end
  if not place then return answer(-4) end
  if place < MOVED then
    redis.call('LREM', PENDING, -1, id)
  elseif size - 1 - place < MOVED then
    redis.call('LREM', PENDING, 1, id)
  else
    redis.call('LSET', PENDING, -(place + 1), redis.call('LPOP', PENDING))
  end
else
  leave(id, state, from)
  group_may_be_over(state, group, from)
end
enter(id, state)
if ACTION == 'reschedule' and due > now then wake_if_first(id) end
return answer(1)
