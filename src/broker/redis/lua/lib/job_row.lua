-- Purpose: reads one job as a row, for the scripts that show jobs.
--
-- Returns (appended to the answer) eleven values:
--    1  id
--    2  what was found: 0 a job, 1 nothing, 2 a key of another type, 3 a hash without
--       message, 4 not read because the answer is large already
--    3  message
--    4  state, or empty
--    5  instant in microseconds, or -1. scheduled and retry: the exact due time, if the one in
--       Q:x:due belongs to the score that Asynq's tools see. active: the end of the lease.
--       Others: the score
--    6  x_lost      7  pending_since, or empty      8  1 if there is a result
--    9  the result     10  x_progress, or empty    11  x_cancel, or empty

-- Maximum bytes of messages and results in one answer: Redis does nothing else while it
-- sends them. The caller reads rows that were left out one by one; `spent` includes their
-- size, so that a page as a whole is bounded too.
local ROOM = 1048576
local spent = 0

-- Value 5 of a row.
local function instant(state, id, score)
  if state == 'active' then score = redis.call('ZSCORE', Q .. 'lease', id) end
  if not score then return -1 end
  local at = math.floor(bounded(tonumber(score) * SECOND) + 0.5)
  if state ~= 'scheduled' and state ~= 'retry' then return at end
  local exact = tonumber(redis.call('ZSCORE', Q .. 'x:due', id) or -1)
  if exact >= 0 and shown(exact) == tonumber(score) then return exact end
  return at
end

-- Appends the row of a job. `state` belongs to the list or sorted set in which it was found;
-- `score` is its score there, if it has one.
local function add_row(answer, id, state, score)
  local task, found = {}, 4
  if spent < ROOM then
    task = redis.pcall('HMGET', Q .. 't:' .. id, 'msg', 'state', 'x_lost', 'pending_since',
      'result', 'x_progress', 'x_cancel')
    if task.err then
      task, found = {}, 2
    elseif task[1] then
      found = 0
    else
      found = redis.call('EXISTS', Q .. 't:' .. id) == 1 and 3 or 1
    end
  end
  local message, result = task[1] or '', task[5] or ''
  spent = spent + #message + #result
  if found == 4 then
    for _, field in ipairs({'msg', 'result'}) do
      local length = redis.pcall('HSTRLEN', Q .. 't:' .. id, field)
      if type(length) == 'number' then spent = spent + length end
    end
  end
  local at = #answer
  answer[at + 1] = id
  answer[at + 2] = found
  answer[at + 3] = message
  answer[at + 4] = task[2] or ''
  answer[at + 5] = instant(state, id, score)
  answer[at + 6] = tonumber(task[3]) or 0
  answer[at + 7] = task[4] or ''
  answer[at + 8] = task[5] and 1 or 0
  answer[at + 9] = result
  answer[at + 10] = task[6] or ''
  answer[at + 11] = task[7] or ''
end

