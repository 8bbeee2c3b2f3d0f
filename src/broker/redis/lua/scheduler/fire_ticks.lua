-- Purpose: fires ticks of a periodic entry. Each tick that is due and that nobody
-- has claimed is claimed and its job stored, as one step.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  0, or how often this very call was sent before without an answer
-- ARGV[3]  name of the entry
-- ARGV[4]  up to where ticks are claimed as the caller knows, or empty
-- ARGV[5]  seconds the claim is kept
-- ARGV[6]  number of ticks n
-- ARGV[7…] n ticks in microseconds, in order
-- then     per tick the ten values of its job; see store_job.lua
--
-- Returns  now, up to where ticks are claimed now, when a job was stored last or
--          -1, then per tick three values: code, text, number
--           1  stored; number = when        0  claimed before
--          -1  the lock is held; text = holder
--          -2  the id is in use             2  not due; number = microseconds left
--
-- Asynq has nothing like it: n schedulers enqueue n times. The claim is our own
-- key Q:x:cron:<entry> = "<claimed up to>:<last stored or empty>", in microseconds.

local CLAIM = Q .. 'x:cron:' .. ARGV[3]
-- A claim this far ahead is from before the clock was set back: forget it.
local AHEAD = 86400 * SECOND
local repeated = tonumber(ARGV[2]) > 0
local n = tonumber(ARGV[6])
local jobs = 7 + n
may_store(jobs, #ARGV)

local before = redis.call('GET', CLAIM)
local up_to, last
if before then
  local left, right = string.match(before, '^(%d+):(%d*)$')
  up_to, last = tonumber(left), tonumber(right)
end
if up_to and up_to > now + AHEAD then up_to, last = nil, nil end
local found = up_to
if not up_to then up_to = tonumber(ARGV[4]) end
if not up_to or up_to > now + AHEAD then up_to = now end

local answer = {now, 0, 0}
local function say(code, text, number)
  answer[#answer + 1] = code
  answer[#answer + 1] = text
  answer[#answer + 1] = number
end
for nth = 1, n do
  local tick = tonumber(ARGV[6 + nth])
  if tick > now then
    say(2, '', tick - now)
  elseif tick <= up_to then
    -- The first sending of this call may have been it.
    if repeated and tick == found and last then say(1, '', last) else say(0, '', 0) end
  else
    local code, text = store_at(jobs + (nth - 1) * JOB, repeated)
    up_to = tick
    if code == 1 or code == 2 or code == 5 then
      last = now
      say(1, '', now)
    elseif code == -1 then
      say(-1, text, 0)
    else
      say(-2, '', 0)
    end
  end
end

if up_to ~= found then
  redis.call('SET', CLAIM, whole(up_to) .. ':' .. (last and whole(last) or ''), 'EX', ARGV[5])
end
answer[2] = up_to
answer[3] = last or -1
return answer
