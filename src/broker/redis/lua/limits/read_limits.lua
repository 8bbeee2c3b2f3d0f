-- Purpose: reads the limits of a queue and the state of their keys.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of keys
--
-- Returns  now; number of limits; name and JSON of each; 1 if there are more keys; then five
--          values per key: `<limit>:<key>`; number of jobs that hold a place; number that wait;
--          microsecond at which the first place was taken, or -1; microsecond at which its rate
--          admits the next start, or -1 if it does now
--
-- Asynq has no counterpart.

local tools = limits()
local all = redis.call('HGETALL', Q .. 'x:limits')
local answer = {now, #all / 2}
for _, value in ipairs(all) do answer[#answer + 1] = value end
local most = tonumber(ARGV[2])
local found = redis.call('ZRANGE', Q .. 'x:lim:keys', 0, most)
answer[#answer + 1] = #found > most and 1 or 0
for nth = 1, math.min(#found, most) do
  for _, value in ipairs(tools.state_of(found[nth])) do answer[#answer + 1] = value end
end
return answer
