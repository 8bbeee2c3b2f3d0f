-- Purpose: admits a job that an anonymous request is about to enqueue, unless too many of
-- the jobs admitted before still wait or run.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  id of the job
-- ARGV[3]  maximum number of admitted jobs that wait or run
-- ARGV[4]  key of the idempotency record, or empty
-- ARGV[5]  microseconds after which an admitted job is looked at (again)
--
-- Returns  now, 1 (admitted) | 0 (too many wait)
--
-- Asynq has no counterpart. Q:x:admitted holds the ids, scored by the microsecond at which
-- each was admitted or last looked at. It is only searched when it is full. An id that was
-- admitted a moment ago may not be stored yet, so it stays for ARGV[5] whatever is found.

local ADMITTED, MAX_LOOKS = Q .. 'x:admitted', 1000
local WAITS = {pending = true, active = true, scheduled = true, retry = true, aggregating = true}
local id, max_waiting = ARGV[2], tonumber(ARGV[3])

if ARGV[4] ~= '' and get_until(ARGV[4]) then return {now, 1} end
-- This call was sent before, and its answer was lost.
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
