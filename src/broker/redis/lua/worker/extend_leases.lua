-- Purpose: extends leases of one queue to 30 s from now, each only if it is still
-- the caller's.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…] per lease three values: id, owner or empty, its end as the caller knows it
--
-- A job that was recovered from the caller, because its lease had run out, and that still
-- waits since, is taken back: its attempt goes on, also where the queue is paused.
--
-- Returns  now, then per lease two values: its new end, or 0 if it was lost; what
--          an operator wants to become of its job or empty
--
-- Differs from Asynq, whose extension prolongs whatever lease there is: another
-- owner's is left alone.

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
  -- It was none.
  local losses = (tonumber(redis.call('HGET', task, 'x_lost')) or 0) - 1
  if losses > 0 then
    redis.call('HSET', task, 'x_lost', losses)
  else
    redis.call('HDEL', task, 'x_lost')
  end
end
for _, lease in ipairs(extended) do
  -- Also an earlier end counts: this server's clock may have been set back.
  redis.call('ZADD', LEASES, seconds(lease[2]), lease[1])
end
return answer
