-- Purpose: tells which jobs hold their unique locks.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2…] two values per job: id, key of its lock
--
-- Returns  now, then per job 1 if it holds the lock, else 0

local answer = {now}
for at = 2, #ARGV, 2 do
  local ours = string.sub(ARGV[at + 1], 1, #Q) == Q
  -- A key of another type is not a lock.
  local is_text = ours and redis.call('TYPE', ARGV[at + 1]).ok == 'string'
  answer[#answer + 1] = is_text and get_until(ARGV[at + 1]) == ARGV[at] and 1 or 0
end
return answer
