-- Purpose: takes up to a number of pending jobs of one queue, each under a lease.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most
-- ARGV[3]  until when the caller waits for the answer, or empty
--
-- Returns  now, 1 if the queue is paused or 2 if it is too late, how many broken entries were dropped,
--          then per job four values: id, message, losses, token
--
-- Differs from Asynq:
-- * takes several, and reads all of them before it writes;
-- * pops before it pushes, so that workers drain a full server;
-- * the lease's score has six decimals and is never a whole second: it is the
--   token of its owner, and a whole second is how a Go worker's is known;
-- * takes nothing for a caller who is gone, where the server could not run this
--   in time: the jobs would wait for a lease that nobody holds;
-- * an id without message is dropped with its stub instead of staying active.

local T, LEASES = Q .. 't:', Q .. 'lease'
if ARGV[3] ~= '' and now > tonumber(ARGV[3]) then return {now, 2, 0} end
if redis.call('EXISTS', Q .. 'paused') == 1 then return {now, 1, 0} end
expect_lists('pending', 'active')
expect_zsets('lease')

local ids = redis.call('LRANGE', KEYS[1], -tonumber(ARGV[2]), -1)
local tasks = {}
for at = #ids, 1, -1 do
  tasks[at] = redis.call('HMGET', T .. ids[at], 'msg', 'x_lost', 'x_lease')
end

local answer, broken, seen = {now, 0, 0}, 0, {}
local next_token = first_token()
for at = #ids, 1, -1 do
  local id, task = ids[at], tasks[at]
  redis.call('RPOP', KEYS[1])
  if seen[id] then
    broken = broken + 1
  elseif not task[1] then
    redis.call('DEL', T .. id)
    broken = broken + 1
  else
    -- Later than any token this job had before, also where the clock stands still.
    local token = fractional(math.max(next_token, tonumber(task[3] or 0) + 1))
    next_token = token + 1
    redis.call('LPUSH', Q .. 'active', id)
    redis.call('HSET', T .. id, 'state', 'active')
    redis.call('HDEL', T .. id, 'pending_since', 'x_lease', 'x_was')
    redis.call('ZADD', LEASES, seconds(token), id)
    answer[#answer + 1] = id
    answer[#answer + 1] = task[1]
    answer[#answer + 1] = tonumber(task[2]) or 0
    answer[#answer + 1] = token
  end
  seen[id] = true
end
answer[3] = broken
return answer
