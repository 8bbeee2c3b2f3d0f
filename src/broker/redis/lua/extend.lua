-- Purpose: extends leases of one queue to 30 s from now, each only if it is still
-- the caller's.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…] per lease three values: id, owner or empty, its end as the caller knows it
--
-- Returns  now, then per lease two values: its new end, or 0 if it was lost; what
--          an operator wants to become of its job or empty
--
-- Differs from Asynq, whose extension prolongs whatever lease there is: another
-- owner's is left alone.

local T, LEASES = Q .. 't:', Q .. 'lease'
expect_lists('active')
expect_zsets('lease')

local answer, extended = {now}, {}
local next_end = first_end()
for at = 2, #ARGV, 3 do
  local id = ARGV[at]
  local task = redis.pcall('HMGET', T .. id, 'state', 'x_owner', 'x_cancel')
  local new = 0
  if held(id, ARGV[at + 1], tonumber(ARGV[at + 2]), task[1], task[2]) then
    new = fractional(next_end)
    next_end = new + 1
    extended[#extended + 1] = {id, new}
  end
  answer[#answer + 1] = new
  answer[#answer + 1] = task[3] or ''
end
if #extended == 0 then return answer end

before_growth()
for _, lease in ipairs(extended) do
  -- Also an earlier end counts: this server's clock may have been set back.
  redis.call('ZADD', LEASES, seconds(lease[2]), lease[1])
end
return answer
