-- Purpose: which jobs hold their unique locks.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…] per job two values: id, key of its lock
--
-- Returns  now, then per job 1 or 0

local answer = {now}
for at = 2, #ARGV, 2 do
  local ours = string.sub(ARGV[at + 1], 1, #Q) == Q
  -- What is no lock is held by nobody.
  local is_text = ours and redis.call('TYPE', ARGV[at + 1]).ok == 'string'
  answer[#answer + 1] = is_text and get_until(ARGV[at + 1]) == ARGV[at] and 1 or 0
end
return answer
