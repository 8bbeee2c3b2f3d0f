-- Purpose: takes pending jobs of one queue, each under a lease. First all is tested,
-- then written: see settle_and_dequeue.lua.
--
-- Differs from Asynq:
-- * takes several, and reads all of them before it writes;
-- * pops before it pushes, so that workers drain a full server;
-- * remembers in x_owner who has the job. The lease's score has six decimals and is
--   never a whole second: that is how a Go worker's lease is known;
-- * takes nothing for a caller who is gone, where the server could not run this
--   in time: the jobs would wait for a lease that nobody holds. What was taken for
--   a caller who did not hear of it is given again, before anything new;
-- * an id without message is dropped with its stub instead of staying active, and one
--   whose key is no job's is dropped alone. One that is itself a message, as Asynq
--   before 0.18 wrote it, is archived: see forward_due.lua.

-- The newest active jobs are in front: what was taken just now is among these.
local NEWEST = 500

-- How many jobs this queue has to give, and whether it is paused. Fails where a
-- key that deliver() will write has another type than the protocol's.
local function may_deliver(unheard)
  local size = redis.call('LLEN', Q .. 'pending')
  if size == 0 and unheard == '' then return 0, false end
  expect_lists('active')
  expect_zsets('lease')
  if redis.call('EXISTS', Q .. 'paused') == 1 then return 0, true end
  return size, false
end

-- A short sorted set is a list to Redis, in which it walks and reads decimals anew
-- for each entry: 14 us for each of a hundred leases. A long entry makes it a tree,
-- and it stays one until it is empty.
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

-- Takes so many at most; how many it took. Appends: how many broken entries were
-- dropped, how many jobs follow, the first end of their leases, of which each ends a
-- microsecond after the one before and none with a second, and of each its id, message
-- and pending_since or empty; then how many of
-- them have a past, and of each of these its number, losses, and what an operator
-- wants to become of it or empty.
local function deliver(most, paused, owner, unheard, answer)
  local PENDING, T = Q .. 'pending', Q .. 't:'
  local ids, tasks, seen, broken, stubs, old = {}, {}, {}, 0, {}, {}
  if unheard ~= '' then
    local earlier = {}
    for word in string.gmatch(unheard, '%S+') do earlier[word] = true end
    for _, id in ipairs(redis.call('LRANGE', Q .. 'active', 0, NEWEST - 1)) do
      if #ids == most then break end
      local task = redis.pcall('HMGET', T .. id, 'msg', 'x_lost', 'x_cancel', 'state', 'x_owner')
      if task[1] and earlier[task[5]] and held(id, task[5], 0, task[4], task[5]) then
        ids[#ids + 1], tasks[#tasks + 1] = id, task
        seen[id] = true
      end
    end
  end
  local again = #ids
  local room = paused and 0 or most - again
  local line = room > 0 and redis.call('LRANGE', PENDING, -room, -1) or {}
  for at = #line, 1, -1 do
    local id = line[at]
    local task = redis.pcall('HMGET', T .. id, 'msg', 'x_lost', 'x_cancel', 'pending_since')
    if seen[id] or task.err then
      broken = broken + 1
    elseif not task[1] then
      broken = broken + 1
      if string.sub(id, 1, 8) == '{"Type":' then old[#old + 1] = id
      else stubs[#stubs + 1] = T .. id end
    else
      ids[#ids + 1], tasks[#tasks + 1] = id, task
    end
    seen[id] = true
  end

  if #line > 0 then redis.call('RPOP', PENDING, #line) else before_growth() end
  if #stubs > 0 then redis.call('DEL', unpack(stubs)) end
  for _, message in ipairs(old) do archive_old(message) end
  local number = #ids
  local last = #answer + 2
  answer[last - 1], answer[last] = broken, number
  if number == 0 then return 0 end
  -- Where no other is active, no lease of another can be in the way.
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
    local key, losses, wish = T .. id, task[2], task[3]
    if nth > again then
      -- The attempt of a Go worker that it was about has ended as it asks.
      if wish == 'retry' then
        redis.call('HDEL', key, 'x_cancel')
        wish = nil
      end
      redis.call('HDEL', key, 'pending_since', 'x_progress')
    end
    redis.call('HSET', key, 'state', 'active', 'x_owner', owner)
    leases[2 * nth - 1] = seconds(ends)
    ends = ends + 1
    leases[2 * nth] = id
    answer[last + 1], answer[last + 2] = id, task[1]
    answer[last + 3] = nth > again and task[4] or ''
    last = last + 3
    if losses or task[3] then past[#past + 1] = {nth, tonumber(losses) or 0, wish or ''} end
  end
  add_leases(leases)
  answer[last + 1] = #past
  for nth, one in ipairs(past) do
    local at = last + 3 * nth - 1
    answer[at], answer[at + 1], answer[at + 2] = one[1], one[2], one[3]
  end
  return number
end
