-- Purpose: reads one job.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  id
--
-- Returns  now. If the job, or a key of another type, exists also its row, see job_row.lua,
--          and x_failures or empty

local id = ARGV[2]
-- Not the message, which may be large: see job_row.lua.
local task = redis.pcall('HMGET', Q .. 't:' .. id, 'state', 'group')
if task.err then
  local answer = {now}
  add_row(answer, id, '', false)
  answer[#answer + 1] = ''
  return answer
end
if not task[1] or redis.call('HEXISTS', Q .. 't:' .. id, 'msg') == 0 then return {now} end
local state, score = task[1], false
if state == 'scheduled' or state == 'retry' or state == 'archived' or state == 'completed' then
  score = redis.call('ZSCORE', Q .. state, id)
elseif state == 'aggregating' and task[2] then
  score = redis.call('ZSCORE', Q .. 'g:' .. task[2], id)
end
local answer = {now}
add_row(answer, id, state, score)
answer[#answer + 1] = redis.call('HGET', Q .. 't:' .. id, 'x_failures') or ''
return answer
