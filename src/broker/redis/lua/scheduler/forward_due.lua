-- Purpose: moves due jobs of one queue to pending, or to their group.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  maximum number of jobs to move
-- ARGV[3]  high-water mark: number of pending jobs above which due jobs are forwarded in
--          limited batches
-- ARGV[4]  microseconds between two such batches
--
-- Returns  now; how many jobs became pending; microseconds until the next call is useful, or
--          -1; 1 if jobs are pending and the queue is not paused; then the ids of jobs of an
--          Asynq before 0.18 that were archived
--
-- Order of effects: per job Asynq writes the new place, removes the old one, writes the
-- hash. Here the old place is removed first, which needs no memory, then the new place and
-- the hash follow. Differences:
-- * our jobs are due at the exact time in Q:x:due. An entry there counts only while
--   Q:scheduled or Q:retry has the same time rounded up. A Go forwarder, an inspector or a
--   deletion may have come first and leaves a stale entry, which is removed;
-- * an id without message is dropped together with its stub hash; an id whose key is of
--   another type is dropped alone;
-- * before 0.18, Asynq wrote the message itself, as JSON, instead of the id. Such a job is
--   archived under its own id with that message;
-- * a job that must have started by an instant that has passed (x_start_by) is archived. One that
--   waits for a retry has started: with a Go worker, which keeps that field, so it is removed;
-- * a grouped job adds the group's name to Q:groups, which may have lost it;
-- * a successor (see successor.lua) waits on if its holder still runs;
-- * a due job for which a limit has no room is moved to where it waits. The empty id in Q:x:due
--   says when waiting jobs have to be looked at: see limits.lua.

local T, DUE = Q .. 't:', Q .. 'x:due'
local SOURCES = {Q .. 'scheduled', Q .. 'retry'}
local limit = tonumber(ARGV[2])
expect_lists('pending')
expect_zsets('scheduled', 'retry', 'x:due', 'x:grouped')

-- Step 1: collect due jobs, first those with an exact time, then all others.
local due_jobs, stale, seen, looks = {}, {}, {}, false
local function add(id, due, source)
  if seen[id] then return end
  seen[id] = true
  local task = redis.pcall('HMGET', T .. id, 'msg', 'group', 'x_start_by', 'x_after')
  local group = task[1] and task[2] and task[2] ~= '' and task[2]
  if group then
    redis.call('ZCARD', Q .. 'g:' .. group)
    redis.call('SCARD', Q .. 'groups')
  end
  due_jobs[#due_jobs + 1] =
    {id = id, due = due, source = source, whole = task[1], group = group, nth = #due_jobs,
      foreign = task.err, start_by = task[3], after = task[4]}
end

local exact = redis.call('ZRANGEBYSCORE', DUE, '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, limit)
for at = 1, #exact, 2 do
  local id, due = exact[at], tonumber(exact[at + 1])
  local source
  for _, candidate in ipairs(SOURCES) do
    if tonumber(redis.call('ZSCORE', candidate, id) or -1) == shown(due) then
      source = candidate
      break
    end
  end
  if id == '' then
    looks = true
    stale[#stale + 1] = id
  elseif source then
    add(id, due, source)
  else
    stale[#stale + 1] = id
  end
end
for _, source in ipairs(SOURCES) do
  local room = limit - #due_jobs
  if room > 0 then
    local found = redis.call('ZRANGEBYSCORE', source, '-inf', whole(now_s), 'WITHSCORES',
      'LIMIT', 0, limit)
    for at = 1, #found, 2 do
      if #due_jobs < limit then add(found[at], tonumber(found[at + 1]) * SECOND, source) end
    end
  end
end
table.sort(due_jobs, function(a, b)
  if a.due ~= b.due then return a.due < b.due end
  return a.nth < b.nth
end)

-- Step 2: write. The first write of each job does not grow memory.
for _, id in ipairs(stale) do redis.call('ZREM', DUE, id) end
local moved, old = {}, {}
for _, job in ipairs(due_jobs) do
  local task = T .. job.id
  redis.call('ZREM', DUE, job.id)
  redis.call('ZREM', job.source, job.id)
  if job.foreign then
    -- A key of another type belongs to somebody else: only the entry is removed.
  elseif not job.whole and is_old(job.id) then
    old[#old + 1] = archive_old(job.id)
  elseif not job.whole then
    redis.call('DEL', task)
  elseif job.source == SOURCES[1] and is_expired(job.start_by) then
    archive_unrun(job.id, job.whole, 'expired')
  elseif job.after and job.source == SOURCES[1] then
    -- A successor whose hour is over.
    look_after(job.id)
  elseif job.group then
    redis.call('ZREM', Q .. 'x:grouped', job.id)
    redis.call('ZADD', Q .. 'g:' .. job.group, whole(now_s), job.id)
    redis.call('SADD', Q .. 'groups', job.group)
    redis.call('HSET', task, 'state', 'aggregating')
  else
    redis.call('LPUSH', KEYS[1], job.id)
    -- Pending since its due time, as exactly as that is known.
    redis.call('HSET', task, 'state', 'pending', 'pending_since',
      whole(bounded(math.min(job.due, now))) .. '000')
    if job.start_by and job.source == SOURCES[2] then
      redis.call('HDEL', task, 'x_start_by')
      redis.pcall('ZREM', Q .. 'x:start_by', job.id)
    end
    moved[#moved + 1] = job.id
  end
end

-- Step 3: limits. Whether the queue has some is asked together with whether it is paused.
local pending = redis.call('LLEN', KEYS[1])
local marked = pending > 0 and redis.call('EXISTS', Q .. 'paused', Q .. 'x:limits') or 0
if looks or marked > 0 then
  if redis.call('EXISTS', Q .. 'x:limits') == 1 then limits().hold_back(moved) end
  if looks then limits().look_around() end
  pending, marked = redis.call('LLEN', KEYS[1]), redis.call('EXISTS', Q .. 'paused')
end

-- Step 4: when the next job is due.
local next_due
local function sooner(due)
  if not next_due or due < next_due then next_due = due end
end
local first = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
if first[2] then sooner(tonumber(first[2])) end
for _, source in ipairs(SOURCES) do
  local lowest = redis.call('ZRANGE', source, 0, 0, 'WITHSCORES')
  if lowest[2] then sooner(tonumber(lowest[2]) * SECOND) end
end
local wait = -1
if next_due then wait = math.max(0, math.min(next_due, LATEST * SECOND) - now) end
-- Above the high-water mark the next batch waits, so that new jobs do not queue behind the
-- whole backlog.
if wait >= 0 and #moved == limit and pending >= tonumber(ARGV[3]) then
  wait = math.max(wait, tonumber(ARGV[4]))
end
local ready = pending > 0 and marked == 0
return {now, #moved, wait, ready and 1 or 0, unpack(old)}
