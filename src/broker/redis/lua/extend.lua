-- Purpose: extends leases of one queue to 30 s from now, each only if it is still
-- the one the caller holds.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…] per lease three values: id, token, 1 if the answer to an earlier
--          extension of this token was lost
--
-- Returns  now, then per lease the new token, or 0 if it was lost
--
-- Differs from Asynq, whose extension prolongs whatever lease there is: another
-- owner's is left alone. The token that was replaced is remembered in x_was, so
-- that an owner who did not hear the answer is still known.

local T, LEASES = Q .. 't:', Q .. 'lease'
expect_zsets('lease')

local answer, extended = {now}, {}
local next_token = first_token()
for at = 2, #ARGV, 3 do
  local id, token = ARGV[at], tonumber(ARGV[at + 1])
  local score = redis.call('ZSCORE', LEASES, id)
  local task = redis.call('HMGET', T .. id, 'state', 'x_was')
  local new = 0
  if score and task[1] == 'active' then
    local present = micros(score)
    local unheard = ARGV[at + 2] == '1' and tonumber(task[2] or -1) == token
    if present == token or unheard then
      new = fractional(math.max(next_token, present + 1))
      next_token = new + 1
      extended[#extended + 1] = {id, token, new}
    end
  end
  answer[#answer + 1] = new
end
if #extended == 0 then return answer end

before_growth()
for _, lease in ipairs(extended) do
  redis.call('ZADD', LEASES, seconds(lease[3]), lease[1])
  redis.call('HSET', T .. lease[1], 'x_was', whole(lease[2]))
end
return answer
