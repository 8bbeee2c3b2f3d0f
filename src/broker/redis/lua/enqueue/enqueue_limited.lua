-- Purpose: stores new jobs of one queue that has limits. As enqueue.lua, and a job for which a
-- limit has no room does not stand in pending: it is moved to where it waits, in the same step.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  how often this call was sent before without an answer; 0 the first time
-- ARGV[3…] the values of the jobs, see store_job.lua
--
-- Returns  as enqueue.lua. A job that waits counts as pending
--
-- The client calls it for queues whose limits it has heard of. Without it the dequeue decides
-- alone.

may_store(3, #ARGV)
limits().test()
local answer, stored = {now}, {}
for at = 3, #ARGV, JOB do
  local code, text, due = store_at(at, tonumber(ARGV[2]) > 0)
  answer[#answer + 1] = code
  answer[#answer + 1] = text
  answer[#answer + 1] = due
  if code == 1 then stored[#stored + 1] = ARGV[at] end
end
limits().hold_back(stored)
return answer
