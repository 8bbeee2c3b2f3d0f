-- Purpose: fires ticks of a periodic job. A due tick that nobody has claimed is claimed and
-- its job stored, in one step.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  how often this call was sent before without an answer; 0 the first time
-- ARGV[3]  name of the periodic job
-- ARGV[4]  microsecond up to which ticks are claimed as far as the caller knows, or empty
-- ARGV[5]  seconds the claim is kept
-- ARGV[6]  number of ticks n
-- ARGV[7…] n ticks in microseconds, ascending
-- then     fourteen values per tick: its job, see store_job.lua
--
-- Returns  now; microsecond up to which ticks are claimed now; microsecond at which a job was
--          last stored, or -1; then three values per tick: code, text, number
--           1  stored; number = the microsecond      0  claimed before
--          -1  the unique lock is held, and the holder was replaced or its lock extended if the job
--              asks for that; text = id of the holder
--          -2  the id is in use      2  not due yet; number = microseconds left
--
-- Asynq has no counterpart: n schedulers enqueue n jobs. The claim is the key
-- Q:x:cron:<name> = "<claimed up to>:<last stored or empty>", both in microseconds.

local CLAIM = Q .. 'x:cron:' .. ARGV[3]
-- A claim further ahead than this, in microseconds, was made before the clock was set back:
-- it is ignored.
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
    -- In a repetition the first sending of this call may have claimed it.
    if repeated and tick == found and last then say(1, '', last) else say(0, '', 0) end
  else
    local code, text = store_at(jobs + (nth - 1) * JOB, repeated)
    up_to = tick
    if code == 1 or code == 2 or code == 5 then
      last = now
      say(1, '', now)
    elseif code == -1 or code >= 7 and code <= 10 then
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
