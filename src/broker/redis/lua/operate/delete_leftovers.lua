-- Purpose: removes what lies apart from the containers of a queue that is being
-- removed: hashes, unique locks, counters, keys of our own.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  cursor, 0 to begin
-- ARGV[3]  how many keys to look at
--
-- Returns  now, the next cursor as text, "0" at the end
--
-- No part of Asynq, which leaves them behind. The keys of a queue can only be found
-- among all keys of the server, a part at a time. What has arrived in the queue
-- since its removal began is left alone.

local MOST_ARRIVED, MOST_SETS = 1000, 100
local T = Q .. 't:'
-- What has to stay: containers hold what has arrived, if they exist.
local KEPT = {
  pending = true, active = true, lease = true, scheduled = true, retry = true, archived = true,
  completed = true, groups = true, aggregation_sets = true, paused = true, ['x:due'] = true,
  ['x:grouped'] = true, ['x:ends'] = true, ['x:sets'] = true, ['x:gone'] = true, ['x:minutes'] = true,
  ['x:removing'] = true, ['x:admitted'] = true,
}

-- A step that fails half-way would be begun again for ever.
redis.call('SCARD', Q .. 'groups')
expect_zsets('aggregation_sets')

local arrived, many = {}, redis.call('LLEN', KEYS[1]) > MOST_ARRIVED
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, MOST_ARRIVED - 1)) do arrived[id] = true end
local sets = redis.call('ZRANGE', Q .. 'aggregation_sets', 0, MOST_SETS)
-- Whether a group that exists holds the job, or a set that was taken out of it.
local function aggregating(id, group)
  local key = Q .. 'g:' .. group
  if redis.call('SISMEMBER', Q .. 'groups', group) == 1
    and type(redis.pcall('ZSCORE', key, id)) == 'string' then
    return true
  end
  if #sets > MOST_SETS then return true end
  for _, set in ipairs(sets) do
    if string.sub(set, 1, #key + 1) == key .. ':'
      and type(redis.pcall('ZSCORE', set, id)) == 'string' then
      return true
    end
  end
  return false
end
local function in_use(id)
  local task = redis.pcall('HMGET', T .. id, 'state', 'group')
  local state = task[1]
  if task.err or not state then return false end
  if state == 'pending' then return arrived[id] or many end
  if state == 'active' then return redis.call('EXISTS', Q .. 'active') == 1 end
  if state == 'aggregating' then return aggregating(id, task[2] or '') end
  return type(redis.pcall('ZSCORE', Q .. state, id)) == 'string'
end
local function kept(key)
  local rest = string.sub(key, #Q + 1)
  if KEPT[rest] then return true end
  if string.sub(rest, 1, 2) == 't:' then return in_use(string.sub(rest, 3)) end
  if string.sub(rest, 1, 2) == 'g:' then
    return redis.call('SISMEMBER', Q .. 'groups', string.sub(rest, 3)) == 1
      or redis.call('ZSCORE', Q .. 'aggregation_sets', key)
  end
  local value = redis.pcall('GET', key)
  if type(value) ~= 'string' then return false end
  if string.sub(rest, 1, 7) == 'unique:' then return in_use(value) end
  if string.sub(rest, 1, 7) == 'x:idem:' then
    return in_use(string.sub(value, (string.find(value, ':', 1, true) or 0) + 1))
  end
  return false
end

before_growth()
redis.call('SET', Q .. 'x:removing', '1', 'EX', 60)
local pattern = string.gsub(Q, '[%*%?%[%]\\]', '\\%0') .. '*'
local page = redis.call('SCAN', ARGV[2], 'MATCH', pattern, 'COUNT', tonumber(ARGV[3]))
for _, key in ipairs(page[2]) do
  if not kept(key) then redis.call('UNLINK', key) end
end
return {now, page[1]}
