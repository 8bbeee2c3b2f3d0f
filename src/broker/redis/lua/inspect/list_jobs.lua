-- Purpose: reads a page of the jobs of one state or group.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  state
-- ARGV[3]  key of the list or sorted set after Q
-- ARGV[4]  maximum number of rows
-- ARGV[5]  how the page begins: at | after
-- ARGV[6]  at: number of rows to skip. after: position from 0 of the last row seen, in a
--          list; its score, in a sorted set
-- ARGV[7]  after: id of the last row seen
-- ARGV[8]  after, in a list: id of the first row of that page
-- ARGV[9]  bytes of messages and results after which the page ends
-- ARGV[10] forward | backward: from which end the list is read; positions count from there
--
-- Returns  now, number of entries, number of entries before the first row, score of the last
--          row or empty, then the rows, see job_row.lua
--
-- The order is Asynq's: pending and active from the tail, the others by score. Differs from
-- Asynq: a page can begin after a row, even if that row has moved. In a list the row is
-- searched near the tail and near its former position. If it and the first row of its page
-- are gone, so are the entries before them, and the page begins at the tail. Backward, a row
-- that is gone tells nothing about those before it, and the page begins at its former position.

-- In a list, how many entries at the tail, and on each side of the former position, are
-- searched for a row.
local NEAR_TAIL, NEAR_PLACE = 50000, 1000
local state, key, most = ARGV[2], Q .. ARGV[3], tonumber(ARGV[4])
local in_list = state == 'pending' or state == 'active'
local backward = ARGV[10] == 'backward'
local length = redis.call(in_list and 'LLEN' or 'ZCARD', key)

-- Compares bytes, as Redis does; Lua's own comparison follows the locale.
local function precedes(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Number of entries of a sorted set up to and including this row, as the list is read.
local function after_score(score, id)
  if redis.call('ZSCORE', key, id) == score then
    return redis.call(backward and 'ZREVRANK' or 'ZRANK', key, id) + 1
  end
  -- The row is gone or has another score: find where it would be among rows of its score.
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if precedes(id, redis.call('ZRANGE', key, middle, middle)[1]) then
      high = middle
    else
      low = middle + 1
    end
  end
  return backward and length - low or low
end

-- The same of a list that is read from its head.
local function after_place_from_head(place, last, first)
  if redis.call('LINDEX', key, place) == last then return place + 1 end
  for _, id in ipairs({last, first}) do
    local index = redis.call('LPOS', key, id, 'MAXLEN', NEAR_TAIL)
    if index then return index + 1 end
  end
  return place + 1
end

-- Number of entries up to and including this row of a list.
local function after_place(place, last, first)
  if backward then return after_place_from_head(place, last, first) end
  if redis.call('LINDEX', key, -place - 1) == last then return place + 1 end
  for _, id in ipairs({last, first}) do
    local index = redis.call('LPOS', key, id, 'RANK', -1, 'MAXLEN', NEAR_TAIL)
    if index then return length - index end
  end
  if place < NEAR_TAIL - NEAR_PLACE then return 0 end
  -- Too deep for that search: look around the former position, from the tail's side.
  local nearest = place - NEAR_PLACE
  local ids = redis.call('LRANGE', key, -(place + NEAR_PLACE + 1), -(nearest + 1))
  for at = #ids, 1, -1 do
    if ids[at] == last then return nearest + #ids - at + 1 end
  end
  return place + 1
end

local skip = tonumber(ARGV[6])
if ARGV[5] == 'after' then
  skip = in_list and after_place(skip, ARGV[7], ARGV[8]) or after_score(ARGV[6], ARGV[7])
end

local budget = tonumber(ARGV[9])
local answer, last_score = {now, length, skip, ''}, ''
if in_list then
  local first, last = -(skip + most), -(skip + 1)
  if backward then first, last = skip, skip + most - 1 end
  local ids = redis.call('LRANGE', key, first, last)
  for at = 1, #ids do
    if spent >= budget then break end
    add_row(answer, ids[backward and at or #ids + 1 - at], state)
  end
else
  local range = backward and 'ZREVRANGE' or 'ZRANGE'
  local found = redis.call(range, key, skip, skip + most - 1, 'WITHSCORES')
  for at = 1, #found, 2 do
    if spent >= budget then break end
    add_row(answer, found[at], state, found[at + 1])
    last_score = found[at + 1]
  end
end
answer[4] = last_score
return answer
