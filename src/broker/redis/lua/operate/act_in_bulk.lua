-- Purpose: the next step of an action on all jobs of a state, or of one group.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2…7] as in move_job.lua
-- ARGV[8]  the state
-- ARGV[9]  the group where it is aggregating
-- ARGV[10] how many are still to be looked at, or -1 to begin with all there are now
-- ARGV[11] how many at the beginning have been passed over
-- ARGV[12] how many at most in this step
-- ARGV[13] only jobs of this type, or empty
--
-- Returns  now, how many are still to be looked at, how many at the beginning are
--          passed over from now on, how many jobs were acted upon, how many there
--          were before, the due time of a rescheduling
--
-- Differs from Asynq, which does all in one go and blocks the server meanwhile. The
-- order is the same: what is due, or was archived, first is first. Only where some
-- of a list of more than 300,000 pending jobs are taken out of its middle, which
-- would move the half of it, the newest ones take their places.

local STATE, GROUP, TYPE = ARGV[8], ARGV[9], ARGV[13]
local PENDING = KEYS[1]
local MOVED = 150000
local listed = STATE == 'pending'
local from = listed and PENDING or container(STATE, GROUP)
local size = redis.call(listed and 'LLEN' or 'ZCARD', from)
local left, skip = tonumber(ARGV[10]), tonumber(ARGV[11])
if left < 0 then left = size end
local limit = math.min(tonumber(ARGV[12]), left)

-- The type in a message: the text of the first field number 1.
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

-- Whether a rescheduled job stays in the sorted set that is walked through.
local in_place = ACTION == 'reschedule' and due > now and (STATE == 'scheduled' or STATE == 'retry')

local chosen, ghosts, passed, free = {}, {}, 0, 0
-- Whether the job is one of those meant; nil where there is none.
local function meant(id)
  -- Of another type it is no job either, and stops no other.
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
    -- Has been moved here, by an earlier step perhaps: that one counted it.
    free = free + 1
  else
    chosen[#chosen + 1] = at
  end
end
local next_skip = skip + passed + free

-- Writes from here on; the first does not grow memory.
if listed then
  local out = #chosen + #ghosts
  if skip == 0 and out == #ids then
    redis.call('RPOP', PENDING, out)
  elseif out > 0 and math.min(skip, size - skip - #ids) >= MOVED then
    -- Each place is taken by the newest job that is not meant itself; those that are
    -- meet the same end. A place for which none is found in time ends the step.
    -- All is read before the first write, because reading may fail.
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
    -- No id is blank: what is to go is marked, and taken out in one way through
    -- from the nearer end.
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
