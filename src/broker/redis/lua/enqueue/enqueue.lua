-- Purpose: stores new jobs of one queue, each completely or not at all. The general script;
-- its fast paths are enqueue_now.lua and enqueue_later.lua.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  how often this call was sent before without an answer; 0 the first time
-- ARGV[3…] fourteen values per job, see store_job.lua
--
-- Returns  now, then three values per job: code, text, due time in microseconds. For the
--          codes, the order of effects and the differences from Asynq see store_job.lua.

may_store(3, #ARGV)
local answer = {now}
for at = 3, #ARGV, JOB do
  local code, text, due = store_at(at, tonumber(ARGV[2]) > 0)
  answer[#answer + 1] = code
  answer[#answer + 1] = text
  answer[#answer + 1] = due
end
return answer
