-- Purpose: writes locks that only the messages of a set name into its jobs, so
-- that whoever removes a job releases its lock too.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  group
-- ARGV[3]  id of the set
-- ARGV[4…] per job: id, key of its lock
--
-- Returns  now

local name = ARGV[2] .. ':' .. ARGV[3]
expect_zsets('g:' .. name)
-- What the set is made into frees more than this takes.
before_growth()
for at = 4, #ARGV, 2 do
  local task = Q .. 't:' .. ARGV[at]
  if redis.call('ZSCORE', GROUP .. name, ARGV[at])
    and redis.pcall('HEXISTS', task, 'msg') == 1 then
    redis.call('HSETNX', task, 'unique_key', ARGV[at + 1])
  end
end
return {now}
