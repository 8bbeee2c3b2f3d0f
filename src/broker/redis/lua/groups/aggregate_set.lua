-- Purpose: stores the job that a set was made into, and removes the set with its
-- jobs and their locks, as a whole or not at all.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  0, or how often this very call was sent before without an answer
-- ARGV[3]  group
-- ARGV[4]  id of the set
-- ARGV[5…] ten values of the new job; see store_job.lua
-- ARGV[15…] per lock that only a message of the set names: id, key
--
-- Returns  now, code, text, due in microseconds; see store_job.lua, and
--          6  the set is not the caller's any more; nothing was changed
--          Where the set is gone and the job is there, in a repetition, the
--          earlier sending made it.
--
-- Differs from Asynq, which does it in two steps, so that a set whose server dies
-- between them is aggregated twice; and releases no lock. The jobs of a large set
-- are removed later, in parts: from here on they are in no group any more.

local AT_ONCE = 1000
local name = ARGV[3] .. ':' .. ARGV[4]
local set, repeated = GROUP .. name, tonumber(ARGV[2]) > 0
may_store(5, 14)
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
for at = 15, #ARGV, 2 do held_by(ARGV[at], ARGV[at + 1]) end

-- What this frees is more than it takes.
before_growth()
local code, text, due = store_at(5, repeated)
-- An earlier request's job (3) was not made of this set.
if code < 1 or code == 3 or code == 4 then return {now, code, text, due} end
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
