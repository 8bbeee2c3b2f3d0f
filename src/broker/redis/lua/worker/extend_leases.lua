-- Purpose: extends leases of one queue to 30 s from now, each only if the caller still owns
-- the job.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2…] three values per lease: id, owner or empty, end in microseconds as the caller
--          knows it
--
-- Returns  now, then two values per lease: its new end in microseconds, or 0 if it was lost;
--          the cancel request of its job (retry | archive | delete), or empty
--
-- Order of effects: reads all, then moves recovered jobs back to active, then writes all
-- leases. Differs from Asynq's single ZADD XX, which extends any lease that exists: here a
-- lease of another owner is left alone. A job that was recovered from the caller because its
-- lease had expired, and that still waits, becomes active again: its attempt goes on, even
-- if the queue is paused.

local T, LEASES = Q .. 't:', Q .. 'lease'
expect_lists('active')
expect_zsets('lease')

local answer, extended, back, seen = {now}, {}, {}, {}
local next_end = first_end()
for at = 2, #ARGV, 3 do
  local id, owner = ARGV[at], ARGV[at + 1]
  local task = redis.pcall('HMGET', T .. id, 'state', 'x_owner', 'x_cancel')
  local new = 0
  local ours = held(id, owner, tonumber(ARGV[at + 2]), task[1], task[2])
  if not ours and reclaimed(id, owner, task[1]) then
    ours = true
    if not seen[id] then back[#back + 1] = {id, owner} end
    seen[id] = true
  end
  if ours then
    new = fractional(next_end)
    next_end = new + 1
    extended[#extended + 1] = {id, new}
  end
  answer[#answer + 1] = new
  answer[#answer + 1] = task[3] or ''
end
if #extended == 0 then return answer end

before_growth()
for _, one in ipairs(back) do
  local id, task = one[1], T .. one[1]
  redis.call('LREM', Q .. 'pending', -1, id)
  redis.call('LPUSH', Q .. 'active', id)
  redis.call('HSET', task, 'state', 'active', 'x_owner', one[2])
  redis.call('HDEL', task, 'pending_since', 'x_reclaimed')
  if redis.pcall('TYPE', Q .. 'x:limits').ok == 'hash' then limits().take_back(id) end
  -- The recovery counted a loss that was none.
  local losses = (tonumber(redis.call('HGET', task, 'x_lost')) or 0) - 1
  if losses > 0 then
    redis.call('HSET', task, 'x_lost', losses)
  else
    redis.call('HDEL', task, 'x_lost')
  end
end
for _, lease in ipairs(extended) do
  -- Written even if the new end is earlier: this server's clock may have been set back.
  redis.call('ZADD', LEASES, seconds(lease[2]), lease[1])
end
return answer
