-- Purpose: carries out what was decided about active jobs, each only if it is still
-- the caller's. First all is read and tested, then written: see settle_and_dequeue.lua.
--
-- What is said of a queue's jobs is
--   how many are done: they are removed, have no lock, and count as processed; their
--   ids; their leases in runs, see finish_and_dequeue.lua; how many others there are, and of each ten
--   values:
--          id, owner or empty, end of the lease as the caller knows it,
--          kind (delete | complete | retry | snooze | defer | archive | requeue |
--          restore | reclaim),
--          new message or empty to keep it, microseconds (delay of retry, snooze and
--          defer, retention of complete), 1 if there is a result, the result,
--          key of the unique lock to release or empty: where the job would wait,
--          the one that archiving it releases,
--          how the attempt failed as a line for x_failures, or empty
--
-- Answers for each, the done ones first,
--          1 (done), 2 (archived or 3 deleted instead, as an operator wanted) or
--          0 (lost, nothing changed). A job lost in a repetition counts as done: the
--          earlier sending did it.
--
-- Differs from Asynq:
-- * everything is tested before the first write, and the first write does not
--   grow memory;
-- * a counter that cannot be counted up is left alone, and stops no job from ending;
-- * a lease of another owner is refused; a missing lease is not, while the job
--   is active: keys can get lost, work should not;
-- * a job is looked for in `active` from the end where it probably is, and no
--   further than it lies: Asynq walks through the whole list each time;
-- * the archive is trimmed before a job is added, by a bounded number, so that no
--   number of old jobs makes it fail and the new one is not trimmed itself; hashes
--   and unique locks go with the ids;
-- * a job that was recovered from the caller, and that nobody has had since, still ends
--   as the caller says: its attempt has been made, and is not to be made again;
-- * requeue sets pending_since, and Q:retry's score is rounded up, with the exact
--   due time in Q:x:due;
-- * what an operator wants of a job (x_cancel) is done to it here where its attempt
--   ended before it was told: nobody is to wait for it as long as a retry does;
-- * reclaim (the worker vanished) makes the job the next one and counts the loss
--   in x_lost, where Asynq's recoverer counts a retry and waits; restore and defer
--   are requeue and snooze of a job whose losses stay as they are;
-- * x_failures keeps how the last attempts failed, a line each.

-- An attempt that ends as one of these leaves the job to be taken again.
local WAITS = {retry = true, snooze = true, defer = true, requeue = true, restore = true,
  reclaim = true}
-- These say nothing against the losses before.
local KEEPS_LOSSES = {defer = true, restore = true, reclaim = true}
local WISHES = {archive = 2, delete = 3}

-- So many failures of a job are kept.
local FAILURES = 10

-- Adds to a counter; its new value. Twin of count() in finish_and_dequeue.lua. A counter that is full
-- begins anew, as Asynq's do at the end of an integer; true is the second value then.
-- One that is no number, or of another type, is somebody else's: it is left alone.
local function count_up(key, by)
  local sum = redis.pcall('INCRBY', key, by)
  if type(sum) == 'number' then return sum end
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and string.match(value, '^%-?%d+$') then
    redis.call('SET', key, by)
    return by, true
  end
end

-- Counts attempts that ended, as Asynq does, several at a time.
local function count(processed, failed)
  local day = utc_day(now_s)
  local function today(name, by)
    local key = Q .. name .. ':' .. day
    if by > 0 and count_up(key, by) == by then redis.call('EXPIREAT', key, now_s + DAYS_90) end
  end
  today('processed', processed)
  today('failed', failed)
  if processed == 0 then return end
  local _, anew = count_up(Q .. 'processed', processed)
  -- Of those that are counted now, none has failed yet.
  if anew and type(redis.pcall('INCRBY', Q .. 'failed', 0)) == 'number' then
    redis.call('SET', Q .. 'failed', '0')
  end
  if failed > 0 then count_up(Q .. 'failed', failed) end
end

-- Reads what most jobs end as, which needs least, from this argument on. Twin of the
-- first part of finish_and_dequeue.lua.
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
      local task, ours = redis.pcall('HMGET', T .. id, 'state', 'x_owner'), nil
      if exact then
        -- Nobody else ever had this end. The hash may be lost.
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
      end
      answer[#answer + 1] = ours and 1 or otherwise
    end
    place, last_end = place + number, ARGV[at + 3]
    at = at + 4
  end
end

-- Reads what is said of another job from this argument on.
local function read_other(plan, at, otherwise, answer)
  local job = {
    id = ARGV[at], kind = ARGV[at + 3], msg = ARGV[at + 4], time = tonumber(ARGV[at + 5]),
    result = ARGV[at + 6] == '1' and ARGV[at + 7], lock = ARGV[at + 8],
    failure = ARGV[at + 9],
  }
  local id, done = job.id, otherwise
  -- What is of another type is nobody's job, and stops no other.
  local task =
    redis.pcall('HMGET', Q .. 't:' .. id, 'state', 'x_owner', 'x_lost', 'group', 'x_cancel')
  local owner, ends = ARGV[at + 1], tonumber(ARGV[at + 2])
  local ours = not plan.seen[id] and held(id, owner, ends, task[1], task[2])
  if not ours and not plan.seen[id] and reclaimed(id, owner, task[1]) then
    ours = true
    plan.waiting[#plan.waiting + 1] = id
  end
  if ours then
    plan.seen[id] = true
    -- Whom the lease ran out under, unless that is a Go worker.
    if job.kind == 'reclaim' and owner == '' and not of_go(ends / SECOND) then
      job.from = task[2]
    end
    done = 1
    job.losses = tonumber(task[3]) or 0
    job.grouped = task[4] and task[4] ~= ''
    job.wish = task[5]
    if WAITS[job.kind] then
      done = WISHES[job.wish] or done
      if done == 1 then job.lock = '' else job.kind = job.wish end
    end
    job.unlock = job.lock ~= '' and redis.pcall('GET', job.lock) == id
    plan.others[#plan.others + 1] = job
    if job.kind == 'delete' or job.kind == 'complete' then
      plan.processed = plan.processed + 1
    elseif job.kind == 'retry' or job.kind == 'archive' then
      plan.processed, plan.failed = plan.processed + 1, plan.failed + 1
    end
  end
  answer[#answer + 1] = done
end

-- Reads what is said of this queue's jobs from this argument on, and tests it.
-- Appends their answers; returns what to do, or nil, and the argument after them.
local function read_settlements(at, otherwise, answer)
  local finished = tonumber(ARGV[at])
  local after = at + finished + 2
  after = after + 4 * tonumber(ARGV[after - 1])
  local number = tonumber(ARGV[after])
  if finished + number == 0 then return nil, after + 1 end
  local plan =
    {queue = Q, seen = {}, finished = finished, done = {}, gone = {}, others = {}, failed = 0,
      waiting = {}}
  expect_lists('active')
  if finished > 0 then read_done(plan, at, otherwise, answer) end
  plan.processed = #plan.done
  at = after + 1
  if number > 0 then
    expect_lists('pending')
    expect_zsets('lease', 'retry', 'archived', 'completed', 'x:due', 'x:grouped')
    for _ = 1, number do
      read_other(plan, at, otherwise, answer)
      at = at + 10
    end
  end
  return plan, at
end

-- Takes jobs out of the running ones. Those that were taken first are at the end
-- and mostly end first; in a long list, that is found out by a look at its end.
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

-- Carries out what was decided about a job that is not simply done.
local function settle_other(job, most_archived, archive_age, gone)
  local id, task, kind, fields = job.id, Q .. 't:' .. job.id, job.kind, {}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if job.unlock then gone[#gone + 1] = job.lock end
  if job.msg ~= '' then set('msg', job.msg) end
  if kind == 'delete' then
    if job.wish == 'delete' then release(id) end
    gone[#gone + 1] = task
    return
  elseif kind == 'complete' then
    redis.call('ZADD', Q .. 'completed', whole(now_s + math.ceil(job.time / SECOND)), id)
    set('state', 'completed')
    if job.result then set('result', job.result) end
  elseif kind == 'retry' or kind == 'snooze' or kind == 'defer' then
    local due = bounded(now + job.time)
    redis.call('ZADD', Q .. 'retry', whole(shown(due)), id)
    redis.call('ZADD', Q .. 'x:due', whole(due), id)
    -- Whoever forwards it puts it into its group, and a Go forwarder tells nobody.
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
    local failures = (redis.call('HGET', task, 'x_failures') or '') .. job.failure .. '\n'
    local _, lines = string.gsub(failures, '\n', '')
    for _ = FAILURES + 1, lines do failures = string.match(failures, '\n(.*)$') end
    set('x_failures', failures)
  end
  redis.call('HSET', task, unpack(fields))
  -- Whatever was wanted has been done.
  redis.call('HDEL', task, 'x_owner', 'x_started', 'x_cancel',
    KEEPS_LOSSES[kind] and 'x_owner' or 'x_lost',
    kind == 'reclaim' and job.from and 'x_owner' or 'x_reclaimed')
end

-- Writes what read_settlements() found to be done.
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
  count(plan.processed, plan.failed)
end
