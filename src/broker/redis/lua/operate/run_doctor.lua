-- Purpose: checks one page of a queue's data for damage that no operation leaves behind, and
-- repairs what is provable.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  what to check: types | active | lease | pending | scheduled | retry | archived |
--          completed | x:due | aggregation_sets | keys
-- ARGV[3]  cursor of the previous answer, 0 at first
-- ARGV[4]  approximate number of entries per page
-- ARGV[5]  what to repair: 0 nothing, 1 what cannot lose a job, 2 everything possible
-- ARGV[6]  maximum length of a returned message in bytes
--
-- Returns  now, number of checked entries, next cursor (0 at the end), number of messages;
--          two values per message: id, message; then four values per finding: kind, place,
--          entry, fate (0 only reported, 1 could be repaired, 2 was repaired)
--
-- Asynq has no counterpart. Every test of an entry is made in the same script as its repair.
-- Searches in lists are bounded: what would take too long to find out is reported and left
-- alone.

local T, ACTIVE, LEASES = Q .. 't:', Q .. 'active', Q .. 'lease'
local what, cursor, page = ARGV[2], ARGV[3], tonumber(ARGV[4])
local level, longest = tonumber(ARGV[5]), tonumber(ARGV[6])
-- Maximum number of list entries that one call compares: a few milliseconds.
local budget = 200000
local TYPES = {
  pending = 'list', active = 'list', lease = 'zset', scheduled = 'zset', retry = 'zset',
  archived = 'zset', completed = 'zset', ['x:due'] = 'zset', groups = 'set',
  aggregation_sets = 'zset', processed = 'string', failed = 'string', paused = 'string',
  ['x:limits'] = 'hash', ['x:held'] = 'zset', ['x:lim:keys'] = 'zset', ['x:lim:tat'] = 'zset',
}
local STATES = {
  pending = 'list', active = 'list', scheduled = 'zset', retry = 'zset', archived = 'zset',
  completed = 'zset', aggregating = 'group',
}

local looked, next_cursor, messages, findings = 0, '0', {}, {}
local function add(kind, place, entry, fate)
  -- Samples are shown to people, and an old entry is the whole message.
  if is_old(entry) then entry = old_id(entry) end
  for _, value in ipairs({kind, place, entry, fate}) do findings[#findings + 1] = value end
end
-- Runs a repair if this call's level allows it. Returns the fate to report.
local function repair(needed, act)
  if level < needed then return 1 end
  before_growth()
  act()
  return 2
end

-- If any key is of another type nothing is repaired: no step could rely on the other keys.
for name, expected in pairs(TYPES) do
  local found = redis.call('TYPE', Q .. name).ok
  if found ~= expected and found ~= 'none' then
    level = 0
    TYPES[name] = false
    if what == 'types' then add('wrong_type', name, found, 0) end
  end
end

-- While the queue is being removed, its jobs are in no list on purpose.
if redis.call('EXISTS', Q .. 'x:removing') == 1 then level = 0 end

-- The fields of a job, or nil if its key is of another type, which is reported.
local function task_of(id)
  local task = redis.pcall('HMGET', T .. id, 'msg', 'state', 'group', 'x_owner', 'x_use', 'x_wait')
  if task.err then
    add('wrong_type', 't', id, 0)
    return nil
  end
  return {msg = task[1], state = task[2], group = task[3] ~= '' and task[3], owner = task[4],
    use = task[5] or '', wait = task[6] or ''}
end

-- Whether a list holds the id; nil if finding out would take too long.
local function listed(name, id)
  local size = TYPES[name] and redis.call('LLEN', Q .. name)
  if not size or size > budget then return nil end
  budget = budget - size
  return redis.call('LPOS', Q .. name, id) ~= false
end

-- Whether the job belongs to a large set that was aggregated: its jobs are in no group and
-- are deleted in parts. Nil if unknown. 100 sets are searched.
local function aggregated(id)
  local sets = redis.pcall('ZRANGE', Q .. 'x:gone', 0, 99)
  if sets.err then return nil end
  for _, set in ipairs(sets) do
    if string.sub(set, 1, #Q) == Q and type(redis.pcall('ZSCORE', set, id)) == 'string' then
      return true
    end
  end
  if #sets == 100 then return nil end
  return false
end

-- Whether a group or an aggregation set holds the job; nil if unknown.
local function in_group(group, id)
  local over = aggregated(id)
  if over ~= false then return over end
  if not group then return false end
  local score = redis.pcall('ZSCORE', Q .. 'g:' .. group, id)
  if type(score) == 'string' then return true end
  if score or not TYPES.aggregation_sets then return nil end
  local sets = redis.call('ZRANGE', Q .. 'aggregation_sets', 0, 99)
  if #sets == 100 then return nil end
  for _, set in ipairs(sets) do
    if string.sub(set, 1, #Q) == Q and type(redis.pcall('ZSCORE', set, id)) == 'string' then
      return true
    end
  end
  -- A group other than the one in its hash may hold it.
  if not TYPES.groups or redis.call('SCARD', Q .. 'groups') > 100 then return nil end
  for _, other in ipairs(redis.call('SMEMBERS', Q .. 'groups')) do
    if type(redis.pcall('ZSCORE', Q .. 'g:' .. other, id)) == 'string' then return true end
  end
  return false
end

-- Whether the list or sorted set that this state names holds the job; nil if unknown.
local function holds(state, id, task)
  local kind = STATES[state]
  if not kind then return false end
  if kind == 'group' then return in_group(task.group, id) end
  if not TYPES[state] then return nil end
  if kind == 'list' then return listed(state, id) end
  return redis.call('ZSCORE', Q .. state, id) ~= false
end

-- Checks one entry of a list or sorted set whose jobs should have the state `expected`.
-- Returns whether it is sound and, if so, its fields.
local function check(place, expected, id, remove)
  local task = task_of(id)
  if not task then return false end
  if not task.msg then
    if is_old(id) then
      add('old_entry', place, id, repair(1, function()
        remove()
        archive_old(id)
      end))
    else
      add('ghost', place, id, repair(1, function()
        remove()
        redis.call('DEL', T .. id)
      end))
    end
    return false
  end
  if task.state == expected then return true, task end
  local elsewhere = holds(task.state, id, task)
  if elsewhere then
    add('stray', place, id, repair(1, remove))
  elseif elsewhere == false then
    add('wrong_state', place, id, repair(1, function()
      redis.call('HSET', T .. id, 'state', expected)
    end))
  else
    add('stray', place, id, 0)
  end
  return false
end

-- Returns the message too, so that the caller can try to decode it.
local function show(id)
  local size = redis.call('HSTRLEN', T .. id, 'msg')
  if size > longest then return end
  messages[#messages + 1] = id
  messages[#messages + 1] = redis.call('HGET', T .. id, 'msg')
end

-- Checks a page of a list, starting at the tail, where jobs are dequeued: new jobs do not
-- shift positions there. The walk ends where the list ended when it began, even if the list
-- grows faster. Positions count from the tail; the cursor is "<position>:<end>".
local function look_at_list(name, sound)
  local from, stop = string.match(cursor, '^(%d+):?(%d*)$')
  from, stop = tonumber(from) or 0, tonumber(stop) or redis.call('LLEN', Q .. name)
  local removed, seen = 0, {}
  local ids = redis.call('LRANGE', Q .. name, -(from + page), -(from + 1))
  for at = 1, #ids do
    local id = ids[#ids + 1 - at]
    local index = from + at - 1 - removed
    local function remove()
      local size = redis.call('LLEN', Q .. name)
      local near = index < size / 2
      removed = removed + redis.call('LREM', Q .. name, near and -1 or 1, id)
    end
    -- Twice in this page, or again after the first 2000 entries that were checked.
    local twice = seen[id]
    if not twice and from > 0 and index < 2000 and budget > index then
      budget = budget - index
      twice = redis.call('LPOS', Q .. name, id, 'RANK', -1, 'MAXLEN', index) ~= false
    end
    seen[id] = true
    if twice then
      add('duplicate', name, id, repair(1, function()
        removed = removed + redis.call('LREM', Q .. name, -1, id)
      end))
    else
      -- LREM walks from the nearer end.
      local distance = math.min(index, math.abs(redis.call('LLEN', Q .. name) - index))
      local was = level
      if distance > budget then level = 0 end
      local size = removed
      local ok, task = check(name, name, id, remove)
      if removed > size then budget = budget - distance end
      if ok then
        show(id)
        sound(id, task)
      end
      level = was
    end
  end
  looked = #ids
  from, stop = from + #ids - removed, stop - removed
  if #ids == page and from < stop then next_cursor = whole(from) .. ':' .. whole(stop) end
end

local function look_at_zset(name, each)
  local found = redis.call('ZSCAN', Q .. name, cursor, 'COUNT', page)
  next_cursor = found[1]
  for at = 1, #found[2], 2 do
    looked = looked + 1
    each(found[2][at], found[2][at + 1])
  end
end

local function is_number(value)
  return not value or string.match(value, '^%-?%d+$') ~= nil
end

-- Limits (see limits.lua): makes a key of a pair to be looked at.
local function watch(pair)
  redis.pcall('ZADD', Q .. 'x:lim:keys', 'LT', whole(now), pair)
  redis.pcall('ZADD', Q .. 'x:due', 'LT', whole(now), '')
end

-- Adds a job to a key of a pair; one of another type is lost already.
local function add_to_pair(key, pair, score, id)
  if type(redis.pcall('ZCARD', key)) ~= 'number' then redis.call('DEL', key) end
  redis.call('ZADD', key, 'NX', whole(score), id)
  watch(pair)
end

-- Whether a job waits for a limit.
local function waits(id)
  local score = redis.pcall('ZSCORE', Q .. 'x:held', id)
  return type(score) == 'string' and redis.pcall('ZSCORE', Q .. 'scheduled', id) == score
end

-- Checks a key of a pair: the first members of those that hold a place or wait.
local function look_at_pair(key, kind, pair)
  if redis.call('TYPE', key).ok ~= (kind == 'starts' and 'list' or 'zset') then
    add('wrong_type', 'x:lim:' .. kind, pair, repair(1, function() redis.call('DEL', key) end))
    return
  end
  local members = kind == 'starts' and {} or redis.call('ZRANGE', key, 0, 99)
  for _, id in ipairs(members) do
    looked = looked + 1
    local state = redis.pcall('HGET', T .. id, 'state')
    if kind == 'use' and state ~= 'active' or kind == 'wait' and not waits(id) then
      local finding = kind == 'use' and 'leaked_place' or 'stale_wait'
      add(finding, 'x:lim:' .. kind, id, repair(1, function()
        redis.call('ZREM', key, id)
        watch(pair)
      end))
    end
  end
  if redis.call('EXISTS', key) == 1 and TYPES['x:lim:keys']
    and not redis.call('ZSCORE', Q .. 'x:lim:keys', pair) then
    add('unwatched_limit_key', 'x:lim:keys', pair, repair(1, function() watch(pair) end))
  end
end

local look = {}

look.types = function()
  local day = utc_day(now_s)
  for _, name in ipairs({'processed', 'failed', 'processed:' .. day, 'failed:' .. day}) do
    looked = looked + 1
    local value = redis.pcall('GET', Q .. name)
    if type(value) ~= 'table' and not is_number(value) then add('bad_counter', name, name, 0) end
  end
end

look.active = function()
  look_at_list('active', function(id, task)
    if TYPES.lease and not redis.call('ZSCORE', LEASES, id) then
      add('active_without_lease', 'active', id, repair(1, function()
        local ends = task.owner and seconds(fractional(now + LEASE)) or whole(now_s)
        redis.call('ZADD', LEASES, ends, id)
      end))
    end
    for pair in string.gmatch(task.use, '[^\n]+') do
      local key = Q .. 'x:lim:use:' .. pair
      if type(redis.pcall('ZSCORE', key, id)) ~= 'string' then
        add('lost_place', 'x:lim:use', id, repair(1, function() add_to_pair(key, pair, now, id) end))
      end
    end
  end)
end

look.pending = function()
  look_at_list('pending', function() end)
end

look.lease = function()
  look_at_zset('lease', function(id)
    local function remove() redis.call('ZREM', LEASES, id) end
    local task = task_of(id)
    if not task then return end
    if not task.msg then
      add('ghost', 'lease', id, repair(1, function()
        remove()
        redis.call('DEL', T .. id)
      end))
    elseif task.state ~= 'active' then
      add('lease_without_active', 'lease', id, repair(1, remove))
    elseif listed('active', id) == false then
      add('lease_without_active', 'lease', id, repair(1, function()
        redis.call('LPUSH', ACTIVE, id)
      end))
    end
  end)
end

for _, name in ipairs({'scheduled', 'retry', 'archived', 'completed'}) do
  look[name] = function()
    look_at_zset(name, function(id)
      local ok, task = check(name, name, id, function()
        redis.call('ZREM', Q .. name, id)
        if redis.call('HEXISTS', T .. id, 'msg') == 0 then redis.call('ZREM', Q .. 'x:due', id) end
      end)
      if ok and name ~= 'archived' then show(id) end
      local turn, pair = string.match(ok and task.wait or '', '^(%d+):(.+)$')
      if name == 'scheduled' and pair and waits(id) then
        local key = Q .. 'x:lim:wait:' .. pair
        if type(redis.pcall('ZSCORE', key, id)) ~= 'string' then
          add('lost_wait', 'x:lim:wait', id, repair(1, function()
            add_to_pair(key, pair, tonumber(turn), id)
          end))
        end
      end
    end)
  end
end

look['x:due'] = function()
  look_at_zset('x:due', function(id)
    -- The empty id is no job's: see limits.lua.
    if id == '' or not TYPES.scheduled or not TYPES.retry then return end
    if redis.call('ZSCORE', Q .. 'scheduled', id) or redis.call('ZSCORE', Q .. 'retry', id) then
      return
    end
    add('stale_due_time', 'x:due', id, repair(1, function()
      redis.call('ZREM', Q .. 'x:due', id)
    end))
  end)
end

look.aggregation_sets = function()
  look_at_zset('aggregation_sets', function(set, deadline)
    if string.sub(set, 1, #Q) ~= Q then
      add('dead_set', 'aggregation_sets', set, 0)
    elseif redis.call('EXISTS', set) == 0 then
      add('dead_set', 'aggregation_sets', set, repair(1, function()
        redis.call('ZREM', Q .. 'aggregation_sets', set)
      end))
    elseif tonumber(deadline) < now_s - 300 then
      add('overdue_set', 'aggregation_sets', set, 0)
    end
  end)
end

-- Puts an orphan back where its state says, or into pending if its due time is lost.
local function put_back(id, task)
  if task.state == 'archived' or task.state == 'completed' then
    redis.call('ZADD', Q .. task.state, whole(now_s), id)
  elseif task.state == 'aggregating' and task.group then
    redis.call('ZADD', Q .. 'g:' .. task.group, whole(now_s), id)
    redis.call('SADD', Q .. 'groups', task.group)
  else
    redis.call('RPUSH', KEYS[1], id)
    redis.call('HSET', T .. id, 'state', 'pending', 'pending_since', now_ns())
    redis.call('HDEL', T .. id, 'x_owner')
  end
end

-- Whether a pending job may be missing from a long pending list: only a job that should have
-- been dequeued before the next one is worth a search.
local oldest_pending
local function may_be_lost(id)
  local size = redis.call('LLEN', KEYS[1])
  if size <= 1000 then return true end
  if not oldest_pending then
    local next_id = redis.call('LINDEX', KEYS[1], -1)
    local since = next_id and redis.pcall('HGET', T .. next_id, 'pending_since')
    oldest_pending = type(since) == 'string' and tonumber(since) or 0
  end
  local since = redis.call('HGET', T .. id, 'pending_since')
  return since and (tonumber(since) or 0) < oldest_pending
end

local function look_at_hash(id)
  local task = task_of(id)
  if not task then return end
  if not task.msg then
    add('stub', 't', id, repair(1, function() redis.call('DEL', T .. id) end))
    return
  end
  if task.state == 'pending' and TYPES.pending and not may_be_lost(id) then return end
  if task.state == 'active' and TYPES.lease and redis.call('ZSCORE', LEASES, id) then return end
  local known = holds(task.state, id, task)
  -- If it is not where its state says, look everywhere else.
  for state in pairs(STATES) do
    if known ~= false then break end
    if state ~= task.state then known = holds(state, id, task) end
  end
  if known == false then
    local place = STATES[task.state] and task.state or 't'
    add('orphan', place, id, repair(2, function() put_back(id, task) end))
  end
end

local function look_at_lock(key)
  local holder = redis.pcall('GET', key)
  -- A lock that ends only with its time needs no job.
  if type(holder) ~= 'string' or holder_of(holder) ~= holder then return end
  local task = redis.pcall('HMGET', T .. holder, 'msg', 'state', 'unique_key')
  if task.err then return end
  local other = task[3] and task[3] ~= '' and task[3] ~= key
  if not task[1] or task[2] == 'completed' or other then
    add('lock_without_holder', 'unique', holder, repair(1, function() redis.call('DEL', key) end))
  end
end

local function look_at_group(key, name)
  if redis.call('TYPE', key).ok ~= 'zset' then
    add('wrong_type', 'g', name, 0)
    return
  end
  local members = redis.call('ZRANGE', key, 0, 99)
  for _, id in ipairs(members) do
    looked = looked + 1
    check('g', 'aggregating', id, function()
      redis.call('ZREM', key, id)
      -- An empty aggregation set is over.
      if redis.call('EXISTS', key) == 0 then redis.call('ZREM', Q .. 'aggregation_sets', key) end
    end)
  end
  if not TYPES.groups or not TYPES.aggregation_sets then return end
  if redis.call('EXISTS', key) == 0 then return end
  if redis.call('ZSCORE', Q .. 'aggregation_sets', key) then return end
  if redis.call('SISMEMBER', Q .. 'groups', name) == 1 then return end
  local first = redis.call('ZRANGE', key, 0, 0)[1]
  local task = task_of(first)
  if not task or not task.group then return end
  if task.group == name then
    add('unlisted_group', 'groups', name, repair(1, function()
      redis.call('SADD', Q .. 'groups', name)
    end))
  elseif string.sub(name, 1, #task.group + 1) == task.group .. ':' then
    -- An aggregation set that is not listed: list it as expired, so that it is returned.
    add('unlisted_set', 'aggregation_sets', name, repair(1, function()
      redis.call('ZADD', Q .. 'aggregation_sets', whole(now_s), key)
    end))
  end
end

-- Maximum number of entries checked per page of keys. If a page is cut short, the second
-- part of the cursor is the number of its keys that were checked.
local MOST_LOOKED = 500

look.keys = function()
  local pattern = string.gsub(Q, '[%*%?%[%]\\]', '\\%0') .. '*'
  local from, skip = string.match(cursor, '^(%d+):?(%d*)$')
  skip = tonumber(skip) or 0
  local found = redis.call('SCAN', from, 'MATCH', pattern, 'COUNT', page)
  next_cursor = found[1]
  for at = skip + 1, #found[2] do
    local key = found[2][at]
    if looked >= MOST_LOOKED then
      -- Not counting the keys that this call removed.
      local left = skip
      for before = skip + 1, at - 1 do left = left + redis.call('EXISTS', found[2][before]) end
      next_cursor = from .. ':' .. whole(left)
      break
    end
    looked = looked + 1
    local name = string.sub(key, #Q + 1)
    if string.sub(name, 1, 2) == 't:' then
      look_at_hash(string.sub(name, 3))
    elseif string.sub(name, 1, 7) == 'unique:' then
      look_at_lock(key)
    elseif string.sub(name, 1, 2) == 'g:' then
      look_at_group(key, string.sub(name, 3))
    elseif string.match(name, '^x:lim:%a+:') then
      look_at_pair(key, string.match(name, '^x:lim:(%a+):(.*)$'))
    elseif TYPES[name] == nil and string.sub(name, 1, 2) ~= 'x:'
      and not string.match(name, '^processed:%d') and not string.match(name, '^failed:%d') then
      add('unknown_key', 'keys', name, 0)
    end
  end
end

if TYPES[what] ~= false and look[what] then look[what]() end

local answer = {now, looked, next_cursor, #messages / 2}
for _, value in ipairs(messages) do answer[#answer + 1] = value end
for _, value in ipairs(findings) do answer[#answer + 1] = value end
return answer
