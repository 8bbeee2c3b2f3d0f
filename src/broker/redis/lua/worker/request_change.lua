-- Purpose: stores what an operator asks worker processes to change, and tells them.
--
-- KEYS[1]  asynq:x:asked:{<host>:<pid>:<server id>}, or asynq:x:asked:all[:<namespace>]
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  milliseconds the key lives at least
-- ARGV[3]  message for those who listen to cancel requests
-- ARGV[4…] two values per setting: its field, and what is asked without the instant; an empty
--          text removes the field
--
-- Returns  1
--
-- Does without common.lua, because it touches no queue. Go's servers take the message for the id
-- of a job that they do not have.

local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = string.format('%s%06d', time[1], time[2])
end
local left = redis.call('PTTL', KEYS[1])
for at = 4, #ARGV, 2 do
  -- Also before a write: after it, one that grows is admitted even if memory is full.
  redis.call('HDEL', KEYS[1], ARGV[at])
  if ARGV[at + 1] ~= '' then
    redis.call('HSET', KEYS[1], ARGV[at], now .. ' ' .. ARGV[at + 1])
  end
end
redis.call('PEXPIRE', KEYS[1], math.max(left, tonumber(ARGV[2])))
redis.pcall('PUBLISH', 'asynq:cancel', ARGV[3])
return 1
