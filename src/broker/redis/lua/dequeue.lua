-- Purpose: takes up to a number of pending jobs of one queue, each under a lease.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most
-- ARGV[3]  until when the caller waits for the answer, or empty
-- ARGV[4]  the owner: a number that no other call has
-- ARGV[5]  owners of earlier calls whose answers the caller did not hear, between
--          spaces, or empty
--
-- Returns  now, 1 if the queue is paused or 2 if it is too late, how many broken entries were dropped,
--          then per job five values: id, message, losses, end of the lease,
--          what an operator wants to become of it or empty
--
-- Differs from Asynq:
-- * takes several, and reads all of them before it writes;
-- * pops before it pushes, so that workers drain a full server;
-- * remembers in x_owner who has the job. The lease's score has six decimals and is
--   never a whole second: that is how a Go worker's lease is known;
-- * takes nothing for a caller who is gone, where the server could not run this
--   in time: the jobs would wait for a lease that nobody holds. What was taken for
--   a caller who did not hear of it is given again, before anything new;
-- * an id without message is dropped with its stub instead of staying active.

local T, LEASES, ACTIVE = Q .. 't:', Q .. 'lease', Q .. 'active'
-- The newest active jobs are in front: what was taken just now is among these.
local NEWEST = 500
local most, owner = tonumber(ARGV[2]), ARGV[4]
if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then return {now, 2, 0} end
expect_lists('pending', 'active')
expect_zsets('lease')
local paused = redis.call('EXISTS', Q .. 'paused') == 1

local given = {}
if ARGV[5] ~= '' then
  local unheard = {}
  for earlier in string.gmatch(ARGV[5], '%S+') do unheard[earlier] = true end
  for _, id in ipairs(redis.call('LRANGE', ACTIVE, 0, NEWEST - 1)) do
    if #given == most then break end
    local task = redis.call('HMGET', T .. id, 'msg', 'x_lost', 'x_cancel', 'state', 'x_owner')
    if task[1] and unheard[task[5]] and held(id, task[5], 0, task[4], task[5]) then
      given[#given + 1] = {id, task}
    end
  end
end
local room = paused and 0 or most - #given
local ids = room > 0 and redis.call('LRANGE', KEYS[1], -room, -1) or {}
local tasks = {}
for at = #ids, 1, -1 do
  tasks[at] = redis.call('HMGET', T .. ids[at], 'msg', 'x_lost', 'x_cancel')
end

local answer, broken, seen = {now, paused and 1 or 0, 0}, 0, {}
local next_end = first_end()
local function lease(id, task)
  local ends = fractional(next_end)
  next_end = ends + 1
  redis.call('HSET', T .. id, 'state', 'active', 'x_owner', owner)
  redis.call('ZADD', LEASES, seconds(ends), id)
  answer[#answer + 1] = id
  answer[#answer + 1] = task[1]
  answer[#answer + 1] = tonumber(task[2]) or 0
  answer[#answer + 1] = ends
  answer[#answer + 1] = task[3] or ''
end
if #given > 0 then before_growth() end
for _, one in ipairs(given) do
  lease(one[1], one[2])
  seen[one[1]] = true
end
for at = #ids, 1, -1 do
  local id, task = ids[at], tasks[at]
  redis.call('RPOP', KEYS[1])
  if seen[id] then
    broken = broken + 1
  elseif not task[1] then
    redis.call('DEL', T .. id)
    broken = broken + 1
  else
    redis.call('LPUSH', ACTIVE, id)
    redis.call('HDEL', T .. id, 'pending_since', 'x_progress')
    -- The attempt of a Go worker that it was about has ended as it asks.
    if task[3] == 'retry' then
      redis.call('HDEL', T .. id, 'x_cancel')
      task[3] = nil
    end
    lease(id, task)
  end
  seen[id] = true
end
answer[3] = broken
return answer
