-- Purpose: settles jobs that ended and dequeues new ones, of one or more queues, in one round
-- trip. The general script; its fast path is finish_and_dequeue.lua.
--
-- KEYS[n]  Q:pending of each queue; in a Cluster there is exactly one
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  how often this call was sent before without an answer; 0 the first time
-- ARGV[3]  maximum number of jobs to dequeue
-- ARGV[4]  microsecond until which the caller waits for the answer, or empty. After it
--          nothing is dequeued
-- ARGV[5]  owner: a number that no other call has
-- ARGV[6]  number of queues to dequeue from. They come first in KEYS, in the order in which
--          they are tried
-- ARGV[7…] per queue: owners of earlier calls whose replies the caller did not receive,
--          between spaces, or empty; maximum number of archived jobs; seconds they are kept;
--          then the jobs that ended, see settle.lua
--
-- Returns  now; 1 if the caller's time was over; a code per ended job, see settle.lua;
--          number of queues that follow. A queue follows if it has jobs, is paused or has
--          unconfirmed deliveries: its number in KEYS, 1 if it is paused plus 2 if it has
--          limits, then what deliver() in dequeue.lua appends
--
-- Order of effects and differences from Asynq: see settle.lua and dequeue.lua. All queues
-- are tested before the first write; then all settlements are written, then all deliveries.

local late = ARGV[4] ~= '' and now > tonumber(ARGV[4])
local room, owner, givers = tonumber(ARGV[3]), ARGV[5], late and 0 or tonumber(ARGV[6])
-- The code of a lost job: in a repetition, the first sending settled it.
local otherwise = tonumber(ARGV[2]) > 0 and 1 or 0

local function of_queue(nth)
  Q = string.sub(KEYS[nth], 1, -8)
end

-- Step 1: read and test everything, before the first write.
local answer, plans, keep, unconfirmed, at = {now, late and 1 or 0}, {}, {}, {}, 7
for nth = 1, #KEYS do
  of_queue(nth)
  unconfirmed[nth], keep[nth] = ARGV[at], {tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}
  plans[nth], at = read_settlements(at + 3, otherwise, answer)
end
local lines, left = {}, room
for nth = 1, givers do
  if left <= 0 then break end
  of_queue(nth)
  local plan = plans[nth]
  local size, paused, limited =
    may_deliver(unconfirmed[nth], plan and #plan.places + #plan.successors > 0)
  if size > 0 or paused or unconfirmed[nth] ~= '' then
    lines[#lines + 1] = {nth, paused, limited}
    left = left - size
  end
end

-- Step 2: settle.
for nth = 1, #KEYS do
  if plans[nth] then settle(plans[nth], keep[nth][1], keep[nth][2]) end
end
-- Step 3: dequeue.
answer[#answer + 1] = #lines
for _, line in ipairs(lines) do
  local nth, paused, limited = line[1], line[2], line[3]
  of_queue(nth)
  answer[#answer + 1] = nth
  answer[#answer + 1] = (paused and 1 or 0) + (limited and 2 or 0)
  room = room - deliver(room, paused, limited, owner, unconfirmed[nth], answer)
end
return answer
