-- Purpose: lists jobs of one queue whose lease has expired, and repairs entries that no
-- worker can ever end.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of jobs
-- ARGV[3]  number of expired leases to skip, the oldest ends first
--
-- Returns  now; 1 if the call stopped at one of its bounds; number of removed entries that
--          belong to no job; number of archived jobs of an Asynq before 0.18, and the id of
--          the first or empty; then seven values per job: id, message, x_lost, end of its
--          lease in microseconds, x_cancel or empty, x_owner or empty, x_started or empty
--
-- The caller settles each job (retry, archive or reclaim) with settle_and_dequeue.lua.
--
-- Differs from Asynq:
-- * a score with decimals is a lease of ours, by the clock of this server: it expires when
--   it is over. A whole second is a Go worker's, by the clock of its host: it expires 30 s
--   later, as in Asynq;
-- * lease entries of jobs that are not active, and ids without message, are removed;
--   Asynq tries them again for ever. Active entries of an Asynq before 0.18 are archived;
-- * a score below 0 has expired. One far ahead (infinite, in milliseconds, or written before
--   the server's clock was set back) is replaced like the missing lease of an active job;
-- * an active job without lease gets one: otherwise no server would ever recover it. If
--   it is ours, the lease lasts 30 s and its owner may still extend it; else it ends now
--   and Go's margin of 30 s applies.
--
-- Each call looks at and repairs a bounded number of entries. Q:x:swept says at which entry
-- of a long active list the next call continues.

local T, ACTIVE, LEASES, SWEPT = Q .. 't:', Q .. 'active', Q .. 'lease', Q .. 'x:swept'
local PAGE, MOST_PAGES = 200, 10
-- Maximum number of entries of active that one call looks at, and of entries of one kind
-- that it repairs.
local MOST_SWEPT, MOST_REPAIRED = 1000, 200
local limit, skip = tonumber(ARGV[2]), tonumber(ARGV[3])
expect_zsets('lease')

-- Ids whose key is of another type. They count as jobs without message, but their keys are
-- not ours to delete.
local foreign = {}
local function task_of(id)
  local task = redis.pcall('HMGET', T .. id, 'msg', 'state', 'x_lost', 'x_cancel', 'x_owner',
    'x_started')
  if not task.err then return task end
  foreign[id] = true
  return {false}
end

local answer, found, ghosts, orphans, broken, dropped = {now, 0, 0, 0, ''}, 0, {}, {}, {}, {}

-- The fields of a leased job if it is active. Otherwise nil, and its lease is noted for
-- removal: in `ghosts` if the job is in another state, in `broken` if it does not exist.
local function active(id)
  local task = task_of(id)
  if task[1] and task[2] == 'active' then return task end
  if task[1] then
    ghosts[#ghosts + 1] = id
  else
    broken[#broken + 1] = id
    dropped[id] = true
  end
end

-- Appends the seven values of a job whose lease has expired.
local function look(id, score)
  local task = active(id)
  if not task then return end
  answer[#answer + 1] = id
  answer[#answer + 1] = task[1]
  answer[#answer + 1] = tonumber(task[3]) or 0
  answer[#answer + 1] = micros(score)
  answer[#answer + 1] = task[4] or ''
  answer[#answer + 1] = task[5] or ''
  answer[#answer + 1] = task[6] or ''
  found = found + 1
end

-- Step 1: list expired leases.
--
-- Leases that ended 30 s ago or earlier have expired, whichever process wrote them.
local margin = seconds(now - LEASE)
local all = redis.call('ZRANGEBYSCORE', LEASES, '-inf', margin, 'WITHSCORES', 'LIMIT', skip, limit)
for at = 1, #all, 2 do look(all[at], all[at + 1]) end
local full = #all == 2 * limit
if skip > 0 and #all == 0 then
  skip = skip - redis.call('ZCOUNT', LEASES, '-inf', margin)
else
  skip = 0
end
-- Of the leases that ended within the last 30 s, only ours have expired.
for page = 0, MOST_PAGES - 1 do
  if found >= limit or #ghosts + #broken >= MOST_REPAIRED then break end
  local some = redis.call('ZRANGEBYSCORE', LEASES, '(' .. margin, seconds(now), 'WITHSCORES',
    'LIMIT', page * PAGE, PAGE)
  for at = 1, #some, 2 do
    if found < limit and tonumber(some[at + 1]) % 1 ~= 0 then
      if skip > 0 then skip = skip - 1 else look(some[at], some[at + 1]) end
    end
  end
  if #some < 2 * PAGE then break end
end
full = full or found >= limit or #ghosts + #broken >= MOST_REPAIRED
answer[2], answer[3] = full and 1 or 0, #ghosts + #broken

-- Step 2: find leases that end too far ahead.
--
-- Leases of ours last 30 s, so none should end more than 60 s from now. Go's follow the clock
-- of their host and are left alone.
local far, far_ahead = now + 2 * LEASE, {}
local latest = redis.call('ZREVRANGEBYSCORE', LEASES, '+inf', '(' .. seconds(far), 'WITHSCORES',
  'LIMIT', 0, MOST_REPAIRED)
for at = 1, #latest, 2 do
  local id = latest[at]
  local task = not of_go(latest[at + 1]) and active(id)
  if task then far_ahead[#far_ahead + 1] = {id, task[5]} end
end

-- Whether the list or sorted set that its state names holds the job: then only the entry in
-- active is left over. Nil if finding out would take too long. `budget` limits the entries
-- of pending that one call compares, to a few milliseconds.
local budget = 100000
local function elsewhere(id, state)
  if state == 'active' then return false end
  if state ~= 'pending' then
    return state and type(redis.pcall('ZSCORE', Q .. state, id)) == 'string'
  end
  local size = redis.call('LLEN', KEYS[1])
  local near = math.min(size, 1000)
  if budget < 2 * near then return nil end
  budget = budget - 2 * near
  if redis.call('LPOS', KEYS[1], id, 'MAXLEN', near) then return true end
  if redis.call('LPOS', KEYS[1], id, 'RANK', -1, 'MAXLEN', near) then return true end
  if size > 2 * near then return nil end
  return false
end

-- Step 3: find active jobs without lease.
--
-- More jobs are active than leased: a lease got lost. The search starts at the tail, where
-- the oldest jobs are. `places` are the positions to remove, counted from the tail.
local size, places, next_place = redis.call('LLEN', ACTIVE), {}, nil
if #broken > 0 or size > redis.call('ZCARD', LEASES) - #ghosts then
  local from = redis.pcall('GET', SWEPT)
  from = type(from) == 'string' and tonumber(from) or 0
  if from >= size then from = 0 end
  local ids = redis.call('LRANGE', ACTIVE, -(from + MOST_SWEPT), -(from + 1))
  local place = from
  for at = #ids, 1, -1 do
    if #orphans + #places >= MOST_REPAIRED then break end
    local id = ids[at]
    place = place + 1
    if dropped[id] then
      places[#places + 1] = place
    elseif not redis.call('ZSCORE', LEASES, id) then
      local task = task_of(id)
      local left_over = not task[1]
      if left_over then broken[#broken + 1] = id else left_over = elsewhere(id, task[2]) end
      if left_over then
        places[#places + 1] = place
      elseif left_over == false then
        orphans[#orphans + 1] = {id, task[5]}
      end
    end
  end
  next_place = place < size and place - #places
end

-- Step 4: write. Removals come first: they need no memory.
for _, id in ipairs(broken) do
  redis.call('ZREM', LEASES, id)
  if not foreign[id] then redis.call('DEL', T .. id) end
end
for _, id in ipairs(ghosts) do redis.call('ZREM', LEASES, id) end
if next_place == nil and #far_ahead == 0 then return answer end
before_growth()
-- A new lease. If the job is ours, its owner may still extend it.
local function lease(id, ours)
  redis.call('ZADD', LEASES, ours and seconds(fractional(now + LEASE)) or whole(now_s), id)
end
for _, one in ipairs(far_ahead) do lease(one[1], one[2]) end
if next_place == nil then return answer end
-- No id is empty: mark the entries with an empty one, then remove all in one walk.
for _, place in ipairs(places) do redis.call('LSET', ACTIVE, -place, '') end
if #places > 0 then redis.call('LREM', ACTIVE, -#places, '') end
for _, id in ipairs(broken) do
  local archived = is_old(id) and archive_old(id)
  if archived then
    answer[4] = answer[4] + 1
    if answer[5] == '' then answer[5] = archived end
  end
end
for _, orphan in ipairs(orphans) do
  lease(orphan[1], orphan[2])
  redis.call('HSET', T .. orphan[1], 'state', 'active')
end
if next_place then
  redis.call('SET', SWEPT, whole(next_place), 'EX', 600)
else
  redis.call('DEL', SWEPT)
end
return answer
