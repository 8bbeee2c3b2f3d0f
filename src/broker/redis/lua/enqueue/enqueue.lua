-- Purpose: stores new jobs of one queue. Each job as a whole or not at all.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  0, or how often this very call was sent before without an answer
-- ARGV[3…] per job ten values; see store_job.lua
--
-- Returns  now, then per job three values: code, text, due in microseconds; see
--          store_job.lua, also for what differs from Asynq.

may_store(3, #ARGV)
local answer = {now}
for at = 3, #ARGV, JOB do
  local code, text, due = store_at(at, tonumber(ARGV[2]) > 0)
  answer[#answer + 1] = code
  answer[#answer + 1] = text
  answer[#answer + 1] = due
end
return answer
