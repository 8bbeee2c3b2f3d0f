-- Purpose: carries out the next step of an action on all jobs of a state or group.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2…7]  see move_job.lua
-- ARGV[8]  state
-- ARGV[9]  group, if the state is aggregating
-- ARGV[10] number of jobs still to be looked at, or -1 to begin with all there are
-- ARGV[11] number of jobs at the beginning that were passed over
-- ARGV[12] maximum number of jobs in this step
-- ARGV[13] only jobs of this type, or empty
--
-- Returns  now, number of jobs still to be looked at, number of jobs at the beginning that
--          are passed over from now on, number of jobs acted upon, number of jobs before this
--          step, due time of a rescheduling in microseconds
--
-- Differs from Asynq, which acts on all jobs in one script and blocks the server meanwhile.
-- The order is the same: the job that is due first, or was archived first, comes first. One
-- exception: if jobs are removed from the middle of more than 300,000 pending ones, which
-- would move half of the list, the newest jobs take their positions.

local STATE, GROUP, TYPE = ARGV[8], ARGV[9], ARGV[13]
local PENDING = KEYS[1]
-- Maximum number of entries that LREM may have to walk and move.
local MOVED = 150000
local listed = STATE == 'pending'
local from = listed and PENDING or container(STATE, GROUP)
local size = redis.call(listed and 'LLEN' or 'ZCARD', from)
local left, skip = tonumber(ARGV[10]), tonumber(ARGV[11])
if left < 0 then left = size end
local limit = math.min(tonumber(ARGV[12]), left)

-- The job type in a message: the text of the first protobuf field with number 1, which has
-- the key 10 (1 * 8 + wire type 2). Empty if there is none, nil if the message is damaged.
local function type_of(msg)
  local at = 1
  local function varint()
    local value, factor = 0, 1
    for _ = 1, 10 do
      local byte = string.byte(msg, at)
      if not byte then return nil end
      at = at + 1
      value = value + byte % 128 * factor
      if byte < 128 then return value end
      factor = factor * 128
    end
  end
  while at <= #msg do
    local key = varint()
    local kind = key and key % 8
    if kind == 0 then
      if not varint() then return nil end
    elseif kind == 1 then
      at = at + 8
    elseif kind == 5 then
      at = at + 4
    elseif kind == 2 then
      local length = varint()
      if not length then return nil end
      if key == 10 then return string.sub(msg, at, at + length - 1) end
      at = at + length
    else
      return nil
    end
  end
  return ''
end

-- Step 1: read this step's entries.
local ids, scores = {}, {}
if limit > 0 and listed then
  local some = redis.call('LRANGE', PENDING, -(skip + limit), -(skip + 1))
  for at = #some, 1, -1 do ids[#ids + 1] = some[at] end
elseif limit > 0 then
  local some = redis.call('ZRANGE', from, skip, skip + limit - 1, 'WITHSCORES')
  for at = 1, #some, 2 do
    ids[#ids + 1] = some[at]
    scores[#ids] = tonumber(some[at + 1])
  end
end
if #ids == 0 then return {now, 0, skip, 0, size, due} end

-- Whether a rescheduled job stays in the sorted set that this action walks.
local in_place = ACTION == 'reschedule' and due > now and (STATE == 'scheduled' or STATE == 'retry')

-- Step 2: choose. `chosen` and `ghosts` (entries without job) hold positions in `ids`; `passed`
-- counts the jobs left alone, `free` the jobs that are as they should be already.
local chosen, ghosts, passed, free = {}, {}, 0, 0
-- Whether the action applies to this job; nil if there is no such job.
local function meant(id)
  -- A key of another type is not a job and must not stop the others.
  local task = redis.pcall('HMGET', T .. id, TYPE ~= '' and 'msg' or 'state', 'state')
  if task.err or not task[1] then return nil end
  return task[2] == STATE and (TYPE == '' or type_of(task[1]) == TYPE)
end
for at, id in ipairs(ids) do
  local is = meant(id)
  if is == nil and ACTION == 'delete' then
    ghosts[#ghosts + 1] = at
  elseif not is then
    passed = passed + 1
  elseif in_place and scores[at] == shown(due)
    and tonumber(redis.call('ZSCORE', DUE, id) or -1) == due then
    -- It has this due time already, perhaps from an earlier step that counted it.
    free = free + 1
  else
    chosen[#chosen + 1] = at
  end
end
local next_skip = skip + passed + free

-- Step 3: write. The first write does not grow memory.
if listed then
  local out = #chosen + #ghosts
  if skip == 0 and out == #ids then
    redis.call('RPOP', PENDING, out)
  elseif out > 0 and math.min(skip, size - skip - #ids) >= MOVED then
    -- Each position is filled with the newest job to which the action does not apply; newest
    -- jobs to which it applies are acted upon too. The step ends at the first position for
    -- which no job was found. Everything is read before the first write, because reading may
    -- fail.
    local newest_ids = redis.call('LRANGE', PENDING, 0, 2 * limit - 1)
    local pops, newest, places, fillers = 0, {}, {}, {}
    for _, at in ipairs(chosen) do places[at] = true end
    for _, at in ipairs(ghosts) do places[at] = true end
    local function filler()
      while pops < #newest_ids do
        pops = pops + 1
        local id = newest_ids[pops]
        local is = meant(id)
        if is == false then return id end
        if is then newest[#newest + 1] = id end
      end
    end
    local reached = 0
    for at = 1, #ids do
      if places[at] then
        fillers[at] = filler()
        if not fillers[at] then break end
      end
      reached = at
    end
    redis.call('LPOP', PENDING, pops)
    for at, id in pairs(fillers) do redis.call('LSET', PENDING, -(skip + at), id) end
    local function only_reached(all)
      local some = {}
      for _, at in ipairs(all) do
        if at <= reached then some[#some + 1] = at end
      end
      return some
    end
    chosen, ghosts = only_reached(chosen), only_reached(ghosts)
    for _, id in ipairs(newest) do
      ids[#ids + 1] = id
      chosen[#chosen + 1] = #ids
    end
    next_skip = skip + reached
    passed = reached + pops - #chosen - #ghosts
  elseif out > 0 then
    -- No id is empty: mark the entries with an empty one, then remove all in one walk from
    -- the nearer end.
    for _, places in ipairs({chosen, ghosts}) do
      for _, at in ipairs(places) do redis.call('LSET', PENDING, -(skip + at), '') end
    end
    redis.call('LREM', PENDING, skip < size / 2 and -out or out, '')
  end
end
for _, at in ipairs(ghosts) do
  if not listed then leave(ids[at], STATE, from) end
  redis.call('DEL', T .. ids[at])
end
local moved = {}
for _, at in ipairs(chosen) do
  local id = ids[at]
  if not listed then leave(id, STATE, from) end
  enter(id, STATE)
  if in_place and scores[at] > shown(due) then next_skip = next_skip + 1 end
  moved[id] = true
end
if not listed then group_may_be_over(STATE, GROUP, from) end
if ACTION == 'reschedule' and due > now then
  local first = redis.call('ZRANGE', DUE, 0, 0)[1]
  if first and moved[first] then wake_if_first(first) end
end
return {now, math.max(0, left - passed - #chosen - #ghosts), next_skip, #chosen, size, due}
