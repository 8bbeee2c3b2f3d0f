-- Purpose: deletes the keys of a queue under removal that are in no list or sorted set:
-- hashes, unique locks, counters, keys of our own.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  cursor of the previous answer, 0 at first
-- ARGV[3]  approximate number of keys to look at
--
-- Returns  now, next cursor as text ("0" at the end)
--
-- Asynq has no counterpart: it leaves these keys behind. They can only be found by scanning
-- all keys of the server, one page at a time. Jobs that arrived after the removal began are
-- kept.

-- Numbers of new pending jobs and of aggregation sets that are looked at. If there are more,
-- a job that may be among them is kept.
local MAX_ARRIVED, MAX_SETS = 1000, 100
local T = Q .. 't:'
-- Keys that stay: if these exist they hold jobs that arrived since.
local KEPT = {
  pending = true, active = true, lease = true, scheduled = true, retry = true, archived = true,
  completed = true, groups = true, aggregation_sets = true, paused = true, ['x:due'] = true,
  ['x:grouped'] = true, ['x:ends'] = true, ['x:sets'] = true, ['x:gone'] = true,
  ['x:minutes'] = true, ['x:removing'] = true, ['x:start_by'] = true, ['x:held'] = true,
}

-- Tested first: a step that fails half-way would be repeated for ever.
redis.call('SCARD', Q .. 'groups')
expect_zsets('aggregation_sets')

local arrived, many = {}, redis.call('LLEN', KEYS[1]) > MAX_ARRIVED
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, MAX_ARRIVED - 1)) do arrived[id] = true end
local sets = redis.call('ZRANGE', Q .. 'aggregation_sets', 0, MAX_SETS)
-- Whether a listed group, or a set taken out of it, holds the job.
local function aggregating(id, group)
  local key = Q .. 'g:' .. group
  if redis.call('SISMEMBER', Q .. 'groups', group) == 1
    and type(redis.pcall('ZSCORE', key, id)) == 'string' then
    return true
  end
  if #sets > MAX_SETS then return true end
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
  if string.sub(rest, 1, 7) == 'unique:' then return in_use(holder_of(value)) end
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
