-- Purpose: reads the keys of a queue that are plain values, for an export: counters, unique
-- locks, idempotency keys, claims of ticks.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  cursor of the previous answer, 0 at first
-- ARGV[3]  approximate number of keys to look at
--
-- Returns  now, next cursor as text ("0" at the end), then three values per key: its name
--          after Q, its value, the milliseconds it has left or -1
--
-- Asynq has no counterpart. No list has these keys, so all keys of the server are scanned, one
-- page at a time.

local pattern = string.gsub(Q, '[%*%?%[%]\\]', '\\%0') .. '*'
local page = redis.call('SCAN', ARGV[2], 'MATCH', pattern, 'COUNT', tonumber(ARGV[3]), 'TYPE',
  'string')
local answer = {now, page[1]}
for _, key in ipairs(page[2]) do
  local value = redis.call('GET', key)
  if value then
    answer[#answer + 1] = string.sub(key, #Q + 1)
    answer[#answer + 1] = value
    answer[#answer + 1] = redis.call('PTTL', key)
  end
end
return answer
