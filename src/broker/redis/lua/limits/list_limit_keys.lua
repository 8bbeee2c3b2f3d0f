-- Purpose: lists a page of the keys of a limit with their state. Every key with a state from the
-- first page to the last one is listed; one that comes or goes meanwhile may be missing, and a key
-- may be repeated if the set shrinks.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  name of the limit
-- ARGV[3]  approximate number of keys
-- ARGV[4]  cursor of the previous answer, 0 at first
--
-- Returns  now; next cursor ("0" at the end); then five values per key, as read_limits.lua has them
--
-- Asynq has no counterpart.

-- The set has the keys of all limits of the queue: a call goes on past those of others, but not for
-- ever. A page may be empty before the last one.
local MAX_SCANS = 10
local cursor, found = ARGV[4], {}
for _ = 1, MAX_SCANS do
  -- A name has none of the characters that a pattern knows.
  local page = redis.call('ZSCAN', Q .. 'x:lim:keys', cursor, 'MATCH', ARGV[2] .. ':*', 'COUNT',
    tonumber(ARGV[3]))
  cursor, found = page[1], page[2]
  if #found > 0 or cursor == '0' then break end
end
local tools, answer = limits(), {now, cursor}
for at = 1, #found, 2 do
  for _, value in ipairs(tools.state_of(found[at])) do answer[#answer + 1] = value end
end
return answer
