-- Purpose: stores new jobs that are due now and have no unique lock, idempotency key or
-- group. Fast path of enqueue.lua for the most frequent jobs; tests/it/twins.rs holds the two
-- equal.
--
-- KEYS[n]  Q:pending of each queue; in a Cluster there is exactly one
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2…] per queue: number of jobs, then two values per job: id, message
--
-- Returns  now, then the numbers (from 1, over all queues) of the jobs whose id is in use.
--          All others are pending.
--
-- Order of effects: Asynq writes the hash, then the list. The same here for several jobs,
-- after a test of all lists; a single job goes to the list first, which fails before
-- anything is written if the key is of another type.
--
-- It does not use common.lua: defining its functions costs more than the work here.

local call = redis.call
local now = ARGV[1]
if now == '' then
  local time = call('TIME')
  now = time[1] .. string.format('%06d', time[2])
end

if #ARGV == 4 then
  local id = ARGV[3]
  local task = string.sub(KEYS[1], 1, -8) .. 't:' .. id
  if call('EXISTS', task) == 1 then
    -- Raises the same errors as the general part below.
    call('LLEN', KEYS[1])
    return {now, 1}
  end
  -- The list first: if its key is of another type, nothing has been written yet. Three zeros
  -- turn microseconds into nanoseconds.
  call('LPUSH', KEYS[1], id)
  call('HSET', task, 'msg', ARGV[4], 'state', 'pending', 'pending_since', now .. '000')
  return {now}
end

for nth = 1, #KEYS do call('LLEN', KEYS[nth]) end
local answer, since, at, job = {now}, now .. '000', 2, 0
for nth = 1, #KEYS do
  local task, ids, number = string.sub(KEYS[nth], 1, -8) .. 't:', {}, 0
  local last = at + 2 * ARGV[at]
  for place = at + 1, last, 2 do
    local id = ARGV[place]
    local key = task .. id
    job = job + 1
    if call('EXISTS', key) == 1 then
      answer[#answer + 1] = job
    else
      call('HSET', key, 'msg', ARGV[place + 1], 'state', 'pending', 'pending_since', since)
      number = number + 1
      ids[number] = id
    end
  end
  if number > 0 then call('LPUSH', KEYS[nth], unpack(ids)) end
  at = last + 1
end
return answer
