-- Purpose: stores new jobs of one queue that are due now and have no lock, repeat
-- guard or group: what most jobs are, with what they need alone.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds, or empty: the time of this server
-- ARGV[2…] per job two values: id, message
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
local task = string.sub(KEYS[1], 1, -8) .. 't:'

if #ARGV == 3 then
  local id = ARGV[2]
  task = task .. id
  if call('EXISTS', task) == 1 then return {now, 1} end
  -- Unlike in Asynq the list first: that fails where the key is none, and nothing is
  -- left half done. Three zeros make it nanoseconds.
  call('LPUSH', KEYS[1], id)
  call('HSET', task, 'msg', ARGV[3], 'state', 'pending', 'pending_since', now .. '000')
  return {now}
end

call('LLEN', KEYS[1])
local answer, ids, number, since = {now}, {}, 0, now .. '000'
for at = 2, #ARGV, 2 do
  local id = ARGV[at]
  local key = task .. id
  if call('EXISTS', key) == 1 then
    answer[#answer + 1] = at / 2
  else
    call('HSET', key, 'msg', ARGV[at + 1], 'state', 'pending', 'pending_since', since)
    number = number + 1
    ids[number] = id
  end
end
if number > 0 then call('LPUSH', KEYS[1], unpack(ids)) end
return answer
