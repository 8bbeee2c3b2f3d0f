-- Purpose: admits a job that a stranger is about to enqueue, unless enough of those
-- admitted before still wait or run.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  id of the job
-- ARGV[3]  how many admitted jobs may wait
-- ARGV[4]  key of the repeat guard, or empty
-- ARGV[5]  microseconds after which an admitted job is looked at (again)
--
-- Returns  now, 1 admitted | 0 enough of them wait
--
-- No part of Asynq. Q:x:admitted has the ids, scored by when each was admitted or looked
-- at last. Only a full set is looked through: what was admitted a moment ago may not be
-- stored yet, so an id keeps its place for that long whatever is found.

local ADMITTED, MAX_LOOKS = Q .. 'x:admitted', 1000
local WAITS = {pending = true, active = true, scheduled = true, retry = true, aggregating = true}
local id, max_waiting = ARGV[2], tonumber(ARGV[3])

if ARGV[4] ~= '' and get_until(ARGV[4]) then return {now, 1} end
-- The answer to an earlier try of this very call was lost.
if redis.call('ZSCORE', ADMITTED, id) then return {now, 1} end
local taken = redis.call('ZCARD', ADMITTED)
if taken >= max_waiting then
  local before = whole(now - tonumber(ARGV[5]))
  local due = redis.call('ZRANGEBYSCORE', ADMITTED, '-inf', before, 'LIMIT', 0, MAX_LOOKS)
  for _, known in ipairs(due) do
    local state = redis.pcall('HGET', Q .. 't:' .. known, 'state')
    if type(state) == 'string' and WAITS[state] then
      redis.call('ZADD', ADMITTED, 'XX', whole(now), known)
    else
      redis.call('ZREM', ADMITTED, known)
      taken = taken - 1
    end
  end
end
if taken >= max_waiting then return {now, 0} end
redis.call('ZADD', ADMITTED, whole(now), id)
return {now, 1}
