-- Purpose: carries out how attempts ended, each only if the caller still owns the job.
-- read_settlements() reads and tests everything; settle() writes. settle_and_dequeue.lua
-- calls them in this order.
--
-- Arguments per queue: number of jobs that are simply done (they are deleted, hold no lock
-- and count as processed); their ids; their leases in runs, see finish_and_dequeue.lua;
-- number of other jobs; then eleven values for each:
--    1  id
--    2  owner, or empty if only the end of the lease is known
--    3  end of the lease in microseconds, as the caller knows it
--    4  kind: delete | complete | retry | snooze | defer | archive | requeue | restore |
--       reclaim
--    5  new message, or empty to keep the stored one
--    6  microseconds: delay of retry, snooze and defer; retention of complete
--    7  1 if there is a result
--    8  the result
--    9  key of the unique lock to release, or empty. If the job would wait, it is the lock
--       that is released when an operator's request archives the job instead
--   10  one line for x_failures, or empty
--   11  version of the application, if the attempt failed or completed the job; else empty
--
-- Returns (appended to the answer), per job, the done ones first:
--    1  carried out      2  archived instead, as an operator requested
--    3  deleted instead, as an operator requested      0  not the caller's: unchanged
-- A lost job in a repeated call answers 1: the first sending carried it out.
--
-- Order of effects: Asynq removes the id from active and from lease, then writes the new
-- place and the hash, then counts, then releases the lock. Here the order per job is lease,
-- active, new place, hash; locks and deleted hashes follow in one DEL, counters come last.
-- Differences:
-- * everything is tested before the first write, and the first write never grows memory;
-- * a counter that cannot be incremented stays as it is and blocks no job;
-- * a lease of another owner is refused. A missing lease is accepted while the job is
--   active: a key can get lost, finished work should not;
-- * a job is searched in `active` from the end at which it probably is; Asynq walks the
--   whole list every time;
-- * the archive is trimmed before a job is added, and by a bounded number, so that a large
--   archive cannot make the script fail and the new job is not trimmed itself. The hashes
--   and unique locks of trimmed jobs are deleted too;
-- * a job that was recovered from the caller, and that nobody has dequeued since, still ends
--   as the caller says: its attempt was made and is not repeated;
-- * requeue sets pending_since. The score in Q:retry is rounded up; Q:x:due has the exact
--   due time;
-- * a cancel request (x_cancel) that the worker had not seen is carried out here: the job
--   is archived or deleted at once and does not wait for its retry;
-- * reclaim (the worker vanished) makes the job the next one and increments x_lost; Asynq's
--   recoverer counts a retry and waits. restore and defer are requeue and snooze that keep
--   x_lost as it is;
-- * x_failures keeps one line for each of the last failed attempts, x_version the versions
--   that made the first and the last of them;
-- * the places of limits that a job held are given back, and each lets one waiting job go;
-- * the successor of a job is enqueued, see successor.lua.

-- Kinds after which the job waits to be dequeued again.
local WAITS = {retry = true, snooze = true, defer = true, requeue = true, restore = true,
  reclaim = true}
-- Kinds that keep x_lost: they do not show that a worker survives the job.
local KEEPS_LOSSES = {defer = true, restore = true, reclaim = true}
-- Cancel requests that replace the kind, each with the code that the answer gives for it.
local REQUESTS = {archive = 2, delete = 3}

-- Maximum number of lines in x_failures.
local FAILURES = 10

-- Adds to a counter and returns its new value. A counter at the end of the integer range
-- starts again, as in Asynq; then the second value is true. A key that holds no number or is
-- of another type is left alone. Twin of count() in finish_and_dequeue.lua.
local function count_up(key, by)
  local sum = redis.pcall('INCRBY', key, by)
  if type(sum) == 'number' then return sum end
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and string.match(value, '^%-?%d+$') then
    redis.call('SET', key, by)
    return by, true
  end
end

-- Counts attempts that ended, as Asynq does, but several at a time.
local function count(processed, failed)
  local day = utc_day(now_s)
  local function today(name, by)
    local key = Q .. name .. ':' .. day
    if by > 0 and count_up(key, by) == by then redis.call('EXPIREAT', key, now_s + DAYS_90) end
  end
  today('processed', processed)
  today('failed', failed)
  if processed == 0 then return end
  local _, restarted = count_up(Q .. 'processed', processed)
  -- Both totals start again together; this call's failures are added below.
  if restarted and type(redis.pcall('INCRBY', Q .. 'failed', 0)) == 'number' then
    redis.call('SET', Q .. 'failed', '0')
  end
  if failed > 0 then count_up(Q .. 'failed', failed) end
end

-- Reads and tests the jobs that are simply done, from argument `at` on. Twin of the first
-- part of finish_and_dequeue.lua.
local function read_done(plan, at, otherwise, answer)
  local T, LEASES, seen, done, gone = Q .. 't:', Q .. 'lease', plan.seen, plan.done, plan.gone
  local place = at
  at = at + plan.finished + 1
  local runs, last_end = tonumber(ARGV[at]), nil
  at = at + 1
  for _ = 1, runs do
    local number, owner = tonumber(ARGV[at]), ARGV[at + 1]
    local leased = redis.call('ZRANGEBYSCORE', LEASES, ARGV[at + 2], ARGV[at + 3])
    local exact = #leased == number and ARGV[at + 2] ~= last_end
    for nth = 1, number do
      if leased[nth] ~= ARGV[place + nth] then exact = false end
    end
    for nth = 1, number do
      local id = ARGV[place + nth]
      local task, ours = redis.pcall('HMGET', T .. id, 'state', 'x_owner', 'x_use'), nil
      if exact then
        -- No other owner ever had this end, but the hash may be lost.
        ours = not task[2] or task[2] == owner
      else
        ours = not seen[id] and held(id, owner, 0, task[1], task[2])
        if not ours and not seen[id] and reclaimed(id, owner, task[1]) then
          ours = true
          plan.waiting[#plan.waiting + 1] = id
        end
      end
      if ours then
        seen[id] = true
        done[#done + 1] = id
        gone[#gone + 1] = T .. id
        if task[3] then plan.places[#plan.places + 1] = {id, task[3]} end
      end
      answer[#answer + 1] = ours and 1 or otherwise
    end
    place, last_end = place + number, ARGV[at + 3]
    at = at + 4
  end
end

-- Reads and tests one other job, from argument `at` on.
local function read_other(plan, at, otherwise, answer)
  local job = {
    id = ARGV[at], kind = ARGV[at + 3], msg = ARGV[at + 4], time = tonumber(ARGV[at + 5]),
    result = ARGV[at + 6] == '1' and ARGV[at + 7], lock = ARGV[at + 8],
    failure = ARGV[at + 9], version = ARGV[at + 10],
  }
  local id, done = job.id, otherwise
  -- A key of another type is not a job and must not stop the others.
  local task =
    redis.pcall('HMGET', Q .. 't:' .. id, 'state', 'x_owner', 'x_lost', 'group', 'x_cancel',
      'x_use', 'x_version', 'x_next')
  local owner, ends = ARGV[at + 1], tonumber(ARGV[at + 2])
  local ours = not plan.seen[id] and held(id, owner, ends, task[1], task[2])
  if not ours and not plan.seen[id] and reclaimed(id, owner, task[1]) then
    ours = true
    plan.waiting[#plan.waiting + 1] = id
  end
  if ours then
    plan.seen[id] = true
    if task[6] then plan.places[#plan.places + 1] = {id, task[6]} end
    -- The owner whose lease expired, unless it is a Go worker.
    if job.kind == 'reclaim' and owner == '' and not of_go(ends / SECOND) then
      job.from = task[2]
    end
    done = 1
    job.losses = tonumber(task[3]) or 0
    job.grouped = task[4] and task[4] ~= ''
    job.request = task[5]
    job.versions = task[7] or ' '
    if WAITS[job.kind] then
      done = REQUESTS[job.request] or done
      if done == 1 then job.lock = '' else job.kind = job.request end
    end
    job.unlock = job.lock ~= '' and redis.pcall('GET', job.lock) == id
    plan.others[#plan.others + 1] = job
    if job.kind == 'delete' or job.kind == 'complete' then
      plan.processed = plan.processed + 1
    elseif job.kind == 'retry' or job.kind == 'archive' then
      plan.processed, plan.failed = plan.processed + 1, plan.failed + 1
    end
    if task[8] and follows(task[8], id) then
      expect_zsets('scheduled', 'x:after')
      plan.successors[#plan.successors + 1] = {id, task[8]}
      -- What would run again is replaced by its successor.
      if WAITS[job.kind] then job.kind = 'delete' end
    end
  end
  answer[#answer + 1] = done
end

-- Reads and tests this queue's settlements from argument `at` on, and appends their codes to
-- `answer`. Returns the plan for settle(), or nil if there is nothing to do, and the argument
-- after them. The plan:
--   queue      the queue's prefix           finished   number of done jobs in the call
--   done       ids of done jobs             gone       keys to delete at the end
--   others     the other jobs               waiting    ids that a recovery made pending
--   seen       ids read so far, as a set    processed, failed   what to add to the counters
--   places     ids that hold places of limits, each with its x_use
--   successors ids that have a successor, each with that
local function read_settlements(at, otherwise, answer)
  local finished = tonumber(ARGV[at])
  local after = at + finished + 2
  after = after + 4 * tonumber(ARGV[after - 1])
  local number = tonumber(ARGV[after])
  if finished + number == 0 then return nil, after + 1 end
  local plan =
    {queue = Q, seen = {}, finished = finished, done = {}, gone = {}, others = {}, failed = 0,
      waiting = {}, places = {}, successors = {}}
  expect_lists('active')
  if finished > 0 then read_done(plan, at, otherwise, answer) end
  plan.processed = #plan.done
  at = after + 1
  if number > 0 then
    expect_lists('pending')
    expect_zsets('lease', 'retry', 'archived', 'completed', 'x:due', 'x:grouped')
    for _ = 1, number do
      read_other(plan, at, otherwise, answer)
      at = at + 11
    end
  end
  if #plan.places > 0 then limits().test() end
  return plan, at
end

-- Removes a job from active. The oldest jobs are at the tail and mostly end first. In a list
-- longer than 128, LPOS looks at its last 64 entries and decides from which end LREM walks.
-- `looks` is -1 for a short list, else how many failed looks are left before it gives up.
local looks
local function leave_active(id, oldest)
  local ACTIVE = Q .. 'active'
  if not looks then looks = redis.call('LLEN', ACTIVE) > 128 and 3 or -1 end
  local from_end = oldest or looks < 0
  if not from_end and looks > 0 then
    from_end = redis.call('LPOS', ACTIVE, id, 'RANK', -1, 'MAXLEN', 64)
    looks = from_end and 3 or looks - 1
  end
  redis.call('LREM', ACTIVE, from_end and -1 or 1, id)
end

-- Writes the new place and hash of a job that is not simply done. Keys to delete are added
-- to `gone`.
local function settle_other(job, most_archived, archive_age, gone)
  local id, task, kind, fields = job.id, Q .. 't:' .. job.id, job.kind, {}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if job.unlock then gone[#gone + 1] = job.lock end
  if job.msg ~= '' then set('msg', job.msg) end
  if kind == 'delete' then
    if job.request == 'delete' then release(id) end
    gone[#gone + 1] = task
    return
  elseif kind == 'complete' then
    redis.call('ZADD', Q .. 'completed', whole(now_s + math.ceil(job.time / SECOND)), id)
    set('state', 'completed')
    if job.version ~= '' or job.versions ~= ' ' then
      set('x_version', (string.match(job.versions, '^(.*) ') or '') .. ' ' .. job.version)
    end
    if job.result then set('result', job.result) end
  elseif kind == 'retry' or kind == 'snooze' or kind == 'defer' then
    local due = bounded(now + job.time)
    redis.call('ZADD', Q .. 'retry', whole(shown(due)), id)
    redis.call('ZADD', Q .. 'x:due', whole(due), id)
    -- The forwarder puts it into its group; a Go forwarder does not list the group.
    if job.grouped then redis.call('ZADD', Q .. 'x:grouped', whole(shown(due)), id) end
    wake_if_first(id)
    set('state', 'retry')
  elseif kind == 'archive' then
    make_room(most_archived, archive_age)
    redis.call('ZADD', Q .. 'archived', whole(now_s), id)
    set('state', 'archived')
  else
    redis.call('RPUSH', Q .. 'pending', id)
    set('state', 'pending')
    set('pending_since', now_ns())
    if kind == 'reclaim' then set('x_lost', job.losses + 1) end
    if kind == 'reclaim' and job.from then set('x_reclaimed', job.from .. ' ' .. now_ns()) end
  end
  if job.failure ~= '' then
    local before = redis.call('HGET', task, 'x_failures')
    -- An earlier failure without a version leaves the first one unknown.
    local first = before and string.match(job.versions, '^(.*) ') or not before and job.version
    if job.version ~= '' or job.versions ~= ' ' then
      set('x_version', (first or '') .. ' ' .. job.version)
    end
    local failures = (before or '') .. job.failure .. '\n'
    local _, lines = string.gsub(failures, '\n', '')
    for _ = FAILURES + 1, lines do failures = string.match(failures, '\n(.*)$') end
    set('x_failures', failures)
  end
  redis.call('HSET', task, unpack(fields))
  -- One HDEL for all: a field that has to stay is replaced by x_owner in the list.
  redis.call('HDEL', task, 'x_owner', 'x_started', 'x_cancel', 'x_use', 'x_next',
    KEEPS_LOSSES[kind] and 'x_owner' or 'x_lost',
    kind == 'reclaim' and job.from and 'x_owner' or 'x_reclaimed')
end

-- Writes the plan that read_settlements() made.
local function settle(plan, most_archived, archive_age)
  local done, gone = plan.done, plan.gone
  Q, looks = plan.queue, nil
  for _, id in ipairs(plan.waiting) do redis.call('LREM', Q .. 'pending', -1, id) end
  if #done > 0 then
    redis.call('ZREM', Q .. 'lease', unpack(done))
    local oldest = {}
    for _, id in ipairs(redis.call('LRANGE', Q .. 'active', -plan.finished, -1)) do
      oldest[id] = true
    end
    for _, id in ipairs(done) do leave_active(id, oldest[id]) end
  end
  for _, job in ipairs(plan.others) do
    redis.call('ZREM', Q .. 'lease', job.id)
    leave_active(job.id, job.kind == 'reclaim' or job.kind == 'restore')
  end
  for _, job in ipairs(plan.others) do settle_other(job, most_archived, archive_age, gone) end
  if #gone > 0 then redis.call('DEL', unpack(gone)) end
  for _, one in ipairs(plan.successors) do succeed(one[1], one[2]) end
  for _, place in ipairs(plan.places) do limits().give(place[1], place[2]) end
  count(plan.processed, plan.failed)
end
