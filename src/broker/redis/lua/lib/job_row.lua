-- Purpose: reads one job as a row, for the scripts that show jobs.
--
-- Returns (appended to the answer) fifteen values:
--    1  id
--    2  what was found: 0 a job, 1 nothing, 2 a key of another type, 3 a hash without
--       message, 4 a job whose message and result the caller reads by HMGET
--    3  message
--    4  state, or empty
--    5  instant in microseconds, or -1. scheduled and retry: the exact due time, if the one in
--       Q:x:due belongs to the score that Asynq's tools see. active: the end of the lease.
--       Others: the score
--    6  x_lost      7  pending_since, or empty      8  1 if there is a result
--    9  the result     10  x_progress, or empty    11  x_cancel, or empty
--   12  bytes of message and result     13  for which limit and key it waits, or empty
--   14  x_start_by, or empty     15  x_version, or empty

-- Maximum bytes of the message and result of one row, and of one answer, that pass through
-- Lua. Lua and the answer each copy them: 1 MiB takes Redis twenty times as long as by HMGET,
-- and it serves nobody else meanwhile.
local MAX_ROW, ROOM = 16384, 262144
-- Bytes of all rows, and of those that passed through Lua.
local spent, carried = 0, 0

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
  local key, task, found = Q .. 't:' .. id, {}, 1
  local bytes = redis.pcall('HSTRLEN', key, 'msg')
  if type(bytes) ~= 'number' then
    bytes, found = 0, 2
  else
    bytes = bytes + redis.call('HSTRLEN', key, 'result')
    if bytes > MAX_ROW or carried + bytes > ROOM then
      task = redis.call('HMGET', key, 'state', 'x_lost', 'pending_since', 'x_progress', 'x_cancel',
        'x_wait', 'x_start_by', 'x_version')
      task[8], task[9], task[10], task[6], task[7] = task[6], task[7], task[8], false, false
      found = 4
    else
      task = redis.call('HMGET', key, 'state', 'x_lost', 'pending_since', 'x_progress', 'x_cancel',
        'msg', 'result', 'x_wait', 'x_start_by', 'x_version')
      carried = carried + bytes
      if task[6] then
        found = 0
      elseif redis.call('EXISTS', key) == 1 then
        found = 3
      end
    end
  end
  spent = spent + bytes
  local at = #answer
  answer[at + 1] = id
  answer[at + 2] = found
  answer[at + 3] = task[6] or ''
  answer[at + 4] = task[1] or ''
  answer[at + 5] = instant(state, id, score)
  answer[at + 6] = tonumber(task[2]) or 0
  answer[at + 7] = task[3] or ''
  answer[at + 8] = task[7] and 1 or 0
  answer[at + 9] = task[7] or ''
  answer[at + 10] = task[4] or ''
  answer[at + 11] = task[5] or ''
  answer[at + 12] = bytes
  -- Its turn comes first.
  answer[at + 13] = task[1] == 'scheduled' and task[8] and string.match(task[8], '^%d+:(.*)$') or ''
  answer[at + 14] = task[9] or ''
  answer[at + 15] = task[10] or ''
end
