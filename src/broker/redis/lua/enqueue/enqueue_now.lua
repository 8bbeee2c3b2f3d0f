-- Purpose: stores new jobs that are due now and have no lock, repeat guard or group:
-- what most jobs are, with what they need alone.
--
-- KEYS[n]  Q:pending of each queue; on a Cluster there is one
-- ARGV[1]  now in microseconds, or empty: the time of this server
-- ARGV[2…] per queue: how many jobs; then per job two values: id, message
--
-- Returns  now, then the numbers of the jobs whose id is in use; the others are pending
--
-- It does without common.lua, whose functions cost more than the work here.

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
    -- Refused where the others below are.
    call('LLEN', KEYS[1])
    return {now, 1}
  end
  -- Unlike in Asynq the list first: that fails where the key is none, and nothing is
  -- left half done. Three zeros make it nanoseconds.
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
