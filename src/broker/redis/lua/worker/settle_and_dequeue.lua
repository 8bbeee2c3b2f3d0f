-- Purpose: hands back jobs that ended, and takes others in their place, of one or
-- more queues: all a worker does in one round trip.
--
-- KEYS[n]  Q:pending of each queue; on a Cluster there is one
-- ARGV[1]  now
-- ARGV[2]  0, or how often this very call was sent before without an answer
-- ARGV[3]  how many jobs to take at most
-- ARGV[4]  until when the caller waits for the answer, or empty; too late it takes none
-- ARGV[5]  the owner: a number that no other call has
-- ARGV[6]  how many of the queues to take from; they come first, in the order in
--          which they are to give
-- ARGV[7…] per queue: owners of earlier calls whose answers the caller did not hear,
--          between spaces, or empty; most archived jobs; seconds they are kept; then
--          the jobs that ended, as settle.lua has them
--
-- Returns  now, 1 if it was too late to take jobs, per job that ended what became of
--          it, then how many queues gave something or are paused, and for each of
--          these its number, 1 if it is paused, and what deliver() appends

local late = ARGV[4] ~= '' and now > tonumber(ARGV[4])
local room, owner, givers = tonumber(ARGV[3]), ARGV[5], late and 0 or tonumber(ARGV[6])
-- What is lost in a repetition was done by the earlier sending.
local otherwise = tonumber(ARGV[2]) > 0 and 1 or 0

local function of_queue(nth)
  Q = string.sub(KEYS[nth], 1, -8)
end

-- All is tested before the first write.
local answer, plans, keep, unheard, at = {now, late and 1 or 0}, {}, {}, {}, 7
for nth = 1, #KEYS do
  of_queue(nth)
  unheard[nth], keep[nth] = ARGV[at], {tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}
  plans[nth], at = read_settlements(at + 3, otherwise, answer)
end
local lines, left = {}, room
for nth = 1, givers do
  if left <= 0 then break end
  of_queue(nth)
  local size, paused = may_deliver(unheard[nth])
  if size > 0 or paused or unheard[nth] ~= '' then
    lines[#lines + 1] = {nth, paused}
    left = left - size
  end
end

for nth = 1, #KEYS do
  if plans[nth] then settle(plans[nth], keep[nth][1], keep[nth][2]) end
end
answer[#answer + 1] = #lines
for _, line in ipairs(lines) do
  local nth, paused = line[1], line[2]
  of_queue(nth)
  answer[#answer + 1] = nth
  answer[#answer + 1] = paused and 1 or 0
  room = room - deliver(room, paused, owner, unheard[nth], answer)
end
return answer
