-- Purpose: how many jobs are due when.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…] instants in order, as whole seconds
--
-- Returns  now, then how many scheduled and retried jobs are due until the first instant,
--          from there until the second, and so on

local answer, from = {now}, '-inf'
for at = 2, #ARGV do
  local jobs = 0
  for _, state in ipairs({'scheduled', 'retry'}) do
    jobs = jobs + redis.call('ZCOUNT', Q .. state, from, ARGV[at])
  end
  answer[at] = jobs
  from = '(' .. ARGV[at]
end
return answer
