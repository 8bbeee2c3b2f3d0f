-- Purpose: stores new jobs of one queue that are due now and have no lock, repeat
-- guard or group: what most jobs are, with what they need alone.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds, or empty: the time of this server
-- ARGV[2…] per job two values: id, message
--
-- Returns  now, then per job 1 (pending) or 0 (the id is in use)
--
-- It does without common.lua, whose functions cost more than the work here.

local call = redis.call
local now = ARGV[1]
if now == '' then
  local time = call('TIME')
  now = time[1] .. string.format('%06d', time[2])
end
local task = string.sub(KEYS[1], 1, -8) .. 't:'

-- In what is written below, the list comes first, unlike in Asynq: that fails where the
-- key is none, and nothing is left half done. Three zeros make it nanoseconds.
if #ARGV == 3 then
  local id = ARGV[2]
  task = task .. id
  if call('EXISTS', task) == 1 then return {now, 0} end
  call('LPUSH', KEYS[1], id)
  call('HSET', task, 'msg', ARGV[3], 'state', 'pending', 'pending_since', now .. '000')
  return {now, 1}
end

local answer, fresh, ids, since = {now}, {}, {}, now .. '000'
for at = 2, #ARGV, 2 do
  local id = ARGV[at]
  if fresh[id] or call('EXISTS', task .. id) == 1 then
    answer[#answer + 1] = 0
  else
    fresh[id] = ARGV[at + 1]
    ids[#ids + 1] = id
    answer[#answer + 1] = 1
  end
end
if #ids == 0 then return answer end
call('LPUSH', KEYS[1], unpack(ids))
for _, id in ipairs(ids) do
  call('HSET', task .. id, 'msg', fresh[id], 'state', 'pending', 'pending_since', since)
end
return answer
