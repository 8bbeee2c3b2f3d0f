-- Purpose: counts the jobs that are due in each of several periods.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2…] ends of the periods as whole seconds, ascending
--
-- Returns  now, then the number of scheduled and retried jobs due until the first end, from
--          there until the second, and so on

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
