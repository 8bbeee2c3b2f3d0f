-- Purpose: stores the job that a set was aggregated into and deletes the set, its jobs and
-- their locks, completely or not at all.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  how often this call was sent before without an answer; 0 the first time
-- ARGV[3]  group
-- ARGV[4]  id of the set
-- ARGV[5…18]  fourteen values: the new job, see store_job.lua
-- ARGV[19…]   two values per lock that only a message of the set names: id, key
--
-- Returns  now, code, text, due time in microseconds: see store_job.lua, and
--           6  the set is not the caller's any more; nothing was changed
--          Only with codes 1, 2 and 5 is the set deleted. The caller asks to be refused if the
--          lock is held: with codes 7 to 10 another job was changed and the set stays, so that
--          no job is lost.
--          In a repetition, if the set is gone and the job exists, the answer is 1: the
--          first sending stored it.
--
-- Differs from Asynq, which stores and deletes in two steps, so that a set is aggregated
-- twice if its server dies in between, and which releases no lock. Of a large set only the
-- first jobs are deleted here; return_sets.lua deletes the rest from Q:x:gone.

-- Maximum number of jobs deleted by one call.
local AT_ONCE = 1000
local name = ARGV[3] .. ':' .. ARGV[4]
local set, repeated = GROUP .. name, tonumber(ARGV[2]) > 0
may_store(5, 18)
expect_zsets('aggregation_sets', 'x:sets', 'x:gone', 'scheduled', 'x:due', 'g:' .. name)
if redis.call('EXISTS', set) == 0 or not redis.call('ZSCORE', SETS, set) then
  if repeated and redis.pcall('HGET', Q .. 't:' .. ARGV[5], 'msg') == ARGV[6] then
    return {now, 1, '', now}
  end
  return {now, 6, '', 0}
end

local ids = redis.call('ZRANGE', set, 0, AT_ONCE - 1)
local locks = {}
local function held_by(id, lock)
  if type(lock) ~= 'string' or string.sub(lock, 1, #Q) ~= Q then return end
  if redis.pcall('GET', lock) == id then locks[#locks + 1] = lock end
end
for _, id in ipairs(ids) do held_by(id, redis.pcall('HGET', Q .. 't:' .. id, 'unique_key')) end
for at = 19, #ARGV, 2 do held_by(ARGV[at], ARGV[at + 1]) end

-- This frees more memory than it takes.
before_growth()
local code, text, due = store_at(5, repeated)
if code ~= 1 and code ~= 2 and code ~= 5 then return {now, code, text, due} end
redis.call('ZREM', SETS, set)
redis.call('ZREM', OWN_SETS, set)
for _, lock in ipairs(locks) do redis.call('DEL', lock) end
for _, id in ipairs(ids) do redis.call('DEL', Q .. 't:' .. id) end
if #ids < AT_ONCE then
  redis.call('DEL', set)
else
  redis.call('ZREMRANGEBYRANK', set, 0, AT_ONCE - 1)
  if redis.call('EXISTS', set) == 1 then
    local gone = Q .. 'x:gone:' .. ARGV[4]
    redis.call('RENAME', set, gone)
    redis.call('ZADD', Q .. 'x:gone', whole(now_s), gone)
  end
end
return {now, code, text, due}
