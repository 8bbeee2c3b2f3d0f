-- Purpose: tells where a job stands in its queue, beyond what its row says.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  id
-- ARGV[3]  maximum number of pending jobs to search, from the next one on
-- ARGV[4]  maximum number of aggregation sets to search
--
-- Returns  now; state of the job or empty; 1 if the queue is paused; value of Q:paused or
--          empty; number of pending jobs; number of them before this job, or -1 if it was not
--          found; last minute since 1970 in which a worker of ours served the queue, or -1;
--          1 if x_started is set; 1 if its lease is a Go worker's; number of jobs in its
--          group; microseconds at which the first and the last of them joined, or -1;
--          microsecond at which the aggregation that claimed it ends, or -1; 1 if there are
--          more aggregation sets than were searched for it; id of the job whose end it waits
--          for, or empty; if it waits for a limit seven more, see standing_of in limits.lua
--
-- Asynq has no counterpart. Only what the job's state asks for is searched.

local id = ARGV[2]
local task = redis.call('HMGET', Q .. 't:' .. id, 'state', 'group', 'x_started', 'x_wait',
  'x_after')
local state, group = task[1] or '', task[2] or ''

local pending, ahead = redis.call('LLEN', KEYS[1]), -1
if state == 'pending' then
  local at = redis.call('LPOS', KEYS[1], id, 'RANK', -1, 'MAXLEN', tonumber(ARGV[3]))
  if at then ahead = pending - 1 - at end
end

-- The first of four numbers is the minute: delete_expired.lua writes them. A fifth is there if no worker did.
local served = -1
local minutes = redis.pcall('HVALS', Q .. 'x:minutes')
for _, value in ipairs(minutes.err and {} or minutes) do
  served = math.max(served, tonumber(string.match(value, '^(%d+) %d+ %d+ %d+$')) or -1)
end

local lease = state == 'active' and redis.call('ZSCORE', Q .. 'lease', id)

local size, oldest, newest, ends, more_sets = 0, -1, -1, -1, 0
if state == 'aggregating' then
  local key = Q .. 'g:' .. group
  local function joined(rank)
    local score = redis.call('ZRANGE', key, rank, rank, 'WITHSCORES')[2]
    return score and math.floor(bounded(tonumber(score) * SECOND)) or -1
  end
  size, oldest, newest = redis.call('ZCARD', key), joined(0), joined(-1)
  if not redis.call('ZSCORE', key, id) then
    local sets = redis.call('ZRANGE', Q .. 'aggregation_sets', 0, tonumber(ARGV[4]) - 1,
      'WITHSCORES')
    for at = 1, #sets, 2 do
      -- A set of another queue could be on another node.
      local ours = string.sub(sets[at], 1, #key + 1) == key .. ':'
      if ours and redis.call('ZSCORE', sets[at], id) then
        ends = math.floor(bounded(tonumber(sets[at + 1]) * SECOND))
        break
      end
    end
    local searched = tonumber(ARGV[4])
    more_sets = redis.call('ZCARD', Q .. 'aggregation_sets') > searched and 1 or 0
  end
end

local paused = redis.pcall('GET', Q .. 'paused')
local answer = {
  now, state,
  redis.call('EXISTS', Q .. 'paused'), type(paused) == 'string' and paused or '',
  pending, ahead, served, task[3] and 1 or 0,
  lease and of_go(lease) and 1 or 0, size, oldest, newest, ends,
  more_sets, state == 'scheduled' and task[5] or '',
}
for _, value in ipairs(task[4] and limits().standing_of(id, state, task[4]) or {}) do
  answer[#answer + 1] = value
end
return answer
