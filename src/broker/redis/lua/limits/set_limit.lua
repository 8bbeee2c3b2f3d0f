-- Purpose: sets or removes a limit of a queue, one page of its keys per call: each is looked at
-- at once, so that waiting jobs go where there is room now.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  name of the limit
-- ARGV[3]  the limit as JSON, or empty to remove it
-- ARGV[4]  maximum number of limits
-- ARGV[5]  cursor of the previous answer, 0 at first: only then the limit is written
--
-- Returns  now; 1 done, 0 there is no such limit, -1 there are too many; next cursor ("0" at the
--          end)
--
-- Asynq has no counterpart.

local LIMITS, KEYS_OF = Q .. 'x:limits', Q .. 'x:lim:keys'
local name, definition, cursor = ARGV[2], ARGV[3], ARGV[5]
local known = redis.call('HEXISTS', LIMITS, name) == 1
limits().test()

if cursor == '0' and definition ~= '' then
  if not known and redis.call('HLEN', LIMITS) >= tonumber(ARGV[4]) then return {now, -1, '0'} end
  redis.call('HSET', LIMITS, name, definition)
elseif cursor == '0' then
  if not known then return {now, 0, '0'} end
  redis.call('HDEL', LIMITS, name)
end
-- A name has none of the characters that a pattern knows.
local page = redis.call('ZSCAN', KEYS_OF, cursor, 'MATCH', name .. ':*', 'COUNT', 500)
for at = 1, #page[2], 2 do redis.call('ZADD', KEYS_OF, 'XX', whole(now), page[2][at]) end
if #page[2] > 0 then
  redis.call('ZADD', Q .. 'x:due', 'LT', whole(now), '')
  wake_if_first('')
end
return {now, 1, page[1]}
