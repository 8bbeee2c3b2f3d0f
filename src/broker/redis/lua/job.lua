-- Purpose: one job and where it stands.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  id
--
-- Returns  now; where there is such a job, then message, state, due in microseconds
--          or -1, losses, and the result if there is one
--
-- Differs from Asynq: the due time is the exact one where Q:x:due belongs to the
-- score that Asynq's tools see.

local id = ARGV[2]
local task = redis.call('HMGET', Q .. 't:' .. id, 'msg', 'state', 'x_lost', 'result')
if not task[1] or not task[2] then return {now} end
local due = -1
if task[2] == 'scheduled' or task[2] == 'retry' then
  local score = tonumber(redis.call('ZSCORE', Q .. task[2], id) or -1)
  local exact = tonumber(redis.call('ZSCORE', Q .. 'x:due', id) or -1)
  if score >= 0 then due = score * SECOND end
  if exact >= 0 and shown(exact) == score then due = exact end
end
local answer = {now, task[1], task[2], due, tonumber(task[3]) or 0}
if task[4] then answer[6] = task[4] end
return answer
