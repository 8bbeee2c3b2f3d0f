-- Purpose: lists the keys of all queues on a server that are plain values, for an export:
-- counters, unique locks, idempotency keys, claims of ticks.
--
-- KEYS[1]  Q:pending of any queue on the server
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  cursor of the previous answer, 0 at first
-- ARGV[3]  approximate number of keys to look at
--
-- Returns  now, next cursor as text ("0" at the end), then the keys
--
-- Asynq has no counterpart. No list has these keys, so all keys of the server are scanned, one
-- page at a time. Their values are read by other calls: on a Cluster they lie in other slots.

-- The keys of all queues begin as Q does, as far as the brace.
local pattern = string.sub(Q, 1, string.find(Q, '{', 1, true)) .. '*'
local page = redis.call('SCAN', ARGV[2], 'MATCH', pattern, 'COUNT', tonumber(ARGV[3]), 'TYPE',
  'string')
local answer = {now, page[1]}
for nth, key in ipairs(page[2]) do answer[nth + 2] = key end
return answer
