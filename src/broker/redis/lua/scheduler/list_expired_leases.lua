-- Purpose: finds jobs of one queue whose lease has run out, and mends entries
-- that no worker can ever end.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most
-- ARGV[3]  how many entries of leases to pass over, those that ended first
--
-- Returns  now, 1 if the look ended at its bounds, how many entries it removed that
--          belong to no job, then per job seven values: id, message, losses, end of its
--          lease, what an operator wants to become of it or empty, x_owner and
--          x_started or empty
--
-- Differs from Asynq:
-- * a score with decimals is ours and by the server's clock: out when it is over.
--   A whole second is a Go worker's, by its host's clock: out 30 s later;
-- * lease entries of jobs that are not active, and ids without message, are
--   removed instead of being tried for ever;
-- * a score below 0 is over. One far ahead (infinite, or the server's clock was set back
--   since, or it is in milliseconds) becomes that of an active job without a lease;
-- * an active job without lease gets one: without it no server would ever recover
--   the job. Where it is ours, one of 30 s, which its owner may still extend; else
--   one that ends now, by Go's margin.
--
-- What one call looks at and mends is bounded, however much was lost; Q:x:swept
-- says where in a long active list the next one goes on.

local T, ACTIVE, LEASES, SWEPT = Q .. 't:', Q .. 'active', Q .. 'lease', Q .. 'x:swept'
local PAGE, MOST_PAGES = 200, 10
-- Entries of active that one call looks at, and how many of a kind it mends.
local MOST_SWEPT, MOST_MENDED = 1000, 200
local limit, skip = tonumber(ARGV[2]), tonumber(ARGV[3])
expect_zsets('lease')

-- A hash that is none counts as one without message, but is not ours to delete.
local foreign = {}
local function task_of(id)
  local task = redis.pcall('HMGET', T .. id, 'msg', 'state', 'x_lost', 'x_cancel', 'x_owner',
    'x_started')
  if not task.err then return task end
  foreign[id] = true
  return {false}
end

local answer, found, ghosts, orphans, broken, dropped = {now, 0, 0}, 0, {}, {}, {}, {}

-- The hash of a leased job that is active. Of any other the lease is to go, and nil.
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

-- Whoever wrote these, they are over.
local margin = seconds(now - LEASE)
local all = redis.call('ZRANGEBYSCORE', LEASES, '-inf', margin, 'WITHSCORES', 'LIMIT', skip, limit)
for at = 1, #all, 2 do look(all[at], all[at + 1]) end
local full = #all == 2 * limit
if skip > 0 and #all == 0 then
  skip = skip - redis.call('ZCOUNT', LEASES, '-inf', margin)
else
  skip = 0
end
-- Between the margin and now, only ours are.
for page = 0, MOST_PAGES - 1 do
  if found >= limit or #ghosts + #broken >= MOST_MENDED then break end
  local some = redis.call('ZRANGEBYSCORE', LEASES, '(' .. margin, seconds(now), 'WITHSCORES',
    'LIMIT', page * PAGE, PAGE)
  for at = 1, #some, 2 do
    if found < limit and tonumber(some[at + 1]) % 1 ~= 0 then
      if skip > 0 then skip = skip - 1 else look(some[at], some[at + 1]) end
    end
  end
  if #some < 2 * PAGE then break end
end
full = full or found >= limit or #ghosts + #broken >= MOST_MENDED
answer[2], answer[3] = full and 1 or 0, #ghosts + #broken

-- Ours end within 30 s, so 60 s from now none should; Go's are by their host's clock.
local far, far_ahead = now + 2 * LEASE, {}
local latest = redis.call('ZREVRANGEBYSCORE', LEASES, '+inf', '(' .. seconds(far), 'WITHSCORES',
  'LIMIT', 0, MOST_MENDED)
for at = 1, #latest, 2 do
  local id = latest[at]
  local task = not of_go(latest[at + 1]) and active(id)
  if task then far_ahead[#far_ahead + 1] = {id, task[5]} end
end

-- Whether the container its state names holds the job: then its place in active
-- is left over and nothing else. Nil where that would take too long to find out.
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

-- More active than leased: someone lost a lease. From the end, where the oldest
-- are; the places of what is to go, counted from there.
local size, places, next_place = redis.call('LLEN', ACTIVE), {}, nil
if #broken > 0 or size > redis.call('ZCARD', LEASES) - #ghosts then
  local from = redis.pcall('GET', SWEPT)
  from = type(from) == 'string' and tonumber(from) or 0
  if from >= size then from = 0 end
  local ids = redis.call('LRANGE', ACTIVE, -(from + MOST_SWEPT), -(from + 1))
  local place = from
  for at = #ids, 1, -1 do
    if #orphans + #places >= MOST_MENDED then break end
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

for _, id in ipairs(broken) do
  redis.call('ZREM', LEASES, id)
  if not foreign[id] then redis.call('DEL', T .. id) end
end
for _, id in ipairs(ghosts) do redis.call('ZREM', LEASES, id) end
if next_place == nil and #far_ahead == 0 then return answer end
before_growth()
-- A new lease, which its owner may still extend.
local function lease(id, ours)
  redis.call('ZADD', LEASES, ours and seconds(fractional(now + LEASE)) or whole(now_s), id)
end
for _, one in ipairs(far_ahead) do lease(one[1], one[2]) end
if next_place == nil then return answer end
-- One walk for all of them: no id is empty.
for _, place in ipairs(places) do redis.call('LSET', ACTIVE, -place, '') end
if #places > 0 then redis.call('LREM', ACTIVE, -#places, '') end
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
