-- Purpose: some jobs of one list of a queue.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  state of the list
-- ARGV[3]  its key after Q
-- ARGV[4]  how many rows at most
-- ARGV[5]  at, or after
-- ARGV[6]  at: how many rows to skip. after: of a list the place of the last row
--          seen, counted from 0; else its score
-- ARGV[7]  after: the id of the last row seen
-- ARGV[8]  after, of a list: the id of the first row of the same page
-- ARGV[9]  bytes of messages and results after which the page ends
--
-- Returns  now, length of the list, how many entries come before the first row,
--          score of the last row or empty, then per row its values
--
-- Asynq's order: pending and active from the tail, the others by score. Differs
-- from Asynq: a page can begin after a row, wherever that is by now. In a list
-- that row is looked for near the tail and near its former place; where it and
-- the first row are gone, so are those before them, and the page begins at the
-- tail.

local NEAR_TAIL, NEAR_PLACE = 50000, 1000
local state, key, most = ARGV[2], Q .. ARGV[3], tonumber(ARGV[4])
local in_list = state == 'pending' or state == 'active'
local length = redis.call(in_list and 'LLEN' or 'ZCARD', key)

-- Order of bytes; Lua's own follows the locale.
local function precedes(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end

local function after_score(score, id)
  if redis.call('ZSCORE', key, id) == score then return redis.call('ZRANK', key, id) + 1 end
  -- Gone or moved: where it would be among those of its score.
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
  return low
end

local function after_place(place, last, first)
  if redis.call('LINDEX', key, -place - 1) == last then return place + 1 end
  for _, id in ipairs({last, first}) do
    local index = redis.call('LPOS', key, id, 'RANK', -1, 'MAXLEN', NEAR_TAIL)
    if index then return length - index end
  end
  if place < NEAR_TAIL - NEAR_PLACE then return 0 end
  -- Too deep to be sure; from the tail's side to the head's.
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
  local ids = redis.call('LRANGE', key, -(skip + most), -(skip + 1))
  for at = #ids, 1, -1 do
    if spent >= budget then break end
    add_row(answer, ids[at], state)
  end
else
  local found = redis.call('ZRANGE', key, skip, skip + most - 1, 'WITHSCORES')
  for at = 1, #found, 2 do
    if spent >= budget then break end
    add_row(answer, found[at], state, found[at + 1])
    last_score = found[at + 1]
  end
end
answer[4] = last_score
return answer
