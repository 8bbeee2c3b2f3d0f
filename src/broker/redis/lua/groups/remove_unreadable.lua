-- Purpose: removes jobs that cannot be aggregated from a set. A job with an unreadable
-- message is archived with its bytes; a hash without message is deleted.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  group
-- ARGV[3]  id of the set
-- ARGV[4…] ids
--
-- Returns  now, number of archived jobs
--
-- Differs from Asynq, which aggregates such jobs as jobs without type and payload. The set
-- is removed with its last job.

local name = ARGV[2] .. ':' .. ARGV[3]
local set, archived = GROUP .. name, 0
expect_zsets('archived', 'aggregation_sets', 'x:sets', 'g:' .. name)
for at = 4, #ARGV do
  local id = ARGV[at]
  local task = Q .. 't:' .. id
  local kept = redis.pcall('HEXISTS', task, 'msg')
  if redis.call('ZREM', set, id) == 1 then
    if kept == 1 then
      redis.call('ZADD', Q .. 'archived', whole(now_s), id)
      redis.call('HSET', task, 'state', 'archived')
      redis.call('HDEL', task, 'group')
      archived = archived + 1
    elseif kept == 0 then
      redis.call('DEL', task)
    end
  end
end
if redis.call('EXISTS', set) == 0 then
  redis.call('ZREM', SETS, set)
  redis.call('ZREM', OWN_SETS, set)
end
return {now, archived}
