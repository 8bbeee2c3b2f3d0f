-- Purpose: writes unique locks that only the messages of a set name into the hashes of its
-- jobs, so that deleting a job also releases its lock.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  group
-- ARGV[3]  id of the set
-- ARGV[4…] two values per job: id, key of its lock
--
-- Returns  now
--
-- Asynq has no counterpart: it writes no unique_key for grouped jobs.

local name = ARGV[2] .. ':' .. ARGV[3]
expect_zsets('g:' .. name)
-- Aggregating the set will free more memory than this takes.
before_growth()
for at = 4, #ARGV, 2 do
  local task = Q .. 't:' .. ARGV[at]
  if redis.call('ZSCORE', GROUP .. name, ARGV[at])
    and redis.pcall('HEXISTS', task, 'msg') == 1 then
    redis.call('HSETNX', task, 'unique_key', ARGV[at + 1])
  end
end
return {now}
