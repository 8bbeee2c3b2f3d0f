-- Purpose: carries out what was decided about active jobs, each only if it is still
-- the caller's. First all is read and tested, then written: see exchange.lua.
--
-- What is said of a queue's jobs is
--   how many are done: they are removed, have no lock, and count as processed; their
--   ids; their owners; how many others there are, and of each ten values:
--          id, owner or empty, end of the lease as the caller knows it,
--          kind (delete | complete | retry | snooze | archive | requeue | reclaim),
--          new message or empty to keep it, microseconds (delay of retry and
--          snooze, retention of complete), 1 if there is a result, the result,
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
-- * a lease of another owner is refused; a missing lease is not, while the job
--   is active: keys can get lost, work should not;
-- * a job is looked for in `active` from the end where it probably is, and no
--   further than it lies: Asynq walks through the whole list each time;
-- * the archive is trimmed before a job is added, by a bounded number, so that no
--   number of old jobs makes it fail and the new one is not trimmed itself; hashes
--   and unique locks go with the ids;
-- * requeue sets pending_since, and Q:retry's score is rounded up, with the exact
--   due time in Q:x:due;
-- * what an operator wants of a job (x_cancel) is done to it here where its attempt
--   ended before it was told: nobody is to wait for it as long as a retry does;
-- * reclaim (the worker vanished) makes the job the next one and counts the loss
--   in x_lost, where Asynq's recoverer counts a retry and waits;
-- * x_failures keeps how the last attempts failed, a line each.

-- An attempt that ends as one of these leaves the job to be taken again.
local WAITS = {retry = true, snooze = true, requeue = true, reclaim = true}
local WISHES = {archive = 2, delete = 3}

-- So many failures of a job are kept.
local FAILURES = 10

-- Beyond this a counter begins anew, as Asynq's do at the end of an integer.
local FULL = 9223372036854000000

-- The counters that these attempts will be added to, by their keys. Fails, before
-- the first write, where one cannot be counted up.
local function read_counters(failed)
  local day = utc_day(now_s)
  local counters = {day = day}
  for _, name in ipairs(failed and {'processed', 'failed'} or {'processed'}) do
    for _, key in ipairs({Q .. name, Q .. name .. ':' .. day}) do
      local value = redis.call('GET', key) or '0'
      if value ~= '0' and not string.match(value, '^%-?[1-9]%d*$') then
        error('a counter of the queue is not a number')
      end
      counters[key] = tonumber(value)
    end
  end
  return counters
end

-- Counts attempts that ended, as Asynq does, several at a time.
local function count(counters, processed, failed)
  local function add(key, by)
    if math.abs(counters[key]) < FULL then return redis.call('INCRBY', key, by) end
    redis.call('SET', key, by)
    return by
  end
  local function today(name, by)
    local key = Q .. name .. ':' .. counters.day
    if by > 0 and add(key, by) == by then
      redis.call('EXPIREAT', key, now_s + DAYS_90)
    end
  end
  today('processed', processed)
  today('failed', failed)
  if processed == 0 then return end
  if math.abs(counters[Q .. 'processed']) >= FULL then
    redis.call('SET', Q .. 'failed', '0')
    counters[Q .. 'failed'] = 0
  end
  add(Q .. 'processed', processed)
  if failed > 0 then add(Q .. 'failed', failed) end
end

-- What most jobs end as needs least: the ids from this argument on, their owners
-- after them. As held(), where the owner is known.
local function read_done(plan, at, number, otherwise, answer)
  local T, seen, done, gone = Q .. 't:', plan.seen, plan.done, plan.gone
  local scores = redis.call('ZMSCORE', Q .. 'lease', unpack(ARGV, at, at + number - 1))
  for nth = 1, number do
    local id = ARGV[at + nth - 1]
    local task, score = T .. id, scores[nth]
    local found = redis.call('HMGET', task, 'state', 'x_owner')
    local ours = found[1] == 'active' and found[2] == ARGV[at + number + nth - 1] and not seen[id]
    if ours then
      if score then
        ours = not of_go(score)
      else
        ours = redis.call('LPOS', Q .. 'active', id)
      end
    end
    if ours then
      seen[id] = true
      done[#done + 1] = id
      gone[#gone + 1] = task
    end
    answer[#answer + 1] = ours and 1 or otherwise
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
  local task =
    redis.call('HMGET', Q .. 't:' .. id, 'state', 'x_owner', 'x_lost', 'group', 'x_cancel')
  if not plan.seen[id] and held(id, ARGV[at + 1], tonumber(ARGV[at + 2]), task[1], task[2]) then
    plan.seen[id] = true
    done = 1
    job.losses = tonumber(task[3]) or 0
    job.grouped = task[4] and task[4] ~= ''
    job.wish = task[5]
    if WAITS[job.kind] then
      done = WISHES[job.wish] or done
      if done == 1 then job.lock = '' else job.kind = job.wish end
    end
    job.unlock = job.lock ~= '' and redis.call('GET', job.lock) == id
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
  local after = at + 1 + 2 * finished
  local number = tonumber(ARGV[after])
  if finished + number == 0 then return nil, after + 1 end
  local plan =
    {queue = Q, seen = {}, done = {}, gone = {}, others = {}, processed = 0, failed = 0}
  expect_lists('active')
  if finished > 0 then read_done(plan, at + 1, finished, otherwise, answer) end
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
  if plan.processed > 0 then plan.counters = read_counters(plan.failed > 0) end
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
  elseif kind == 'retry' or kind == 'snooze' then
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
  end
  if job.failure ~= '' then
    local failures = (redis.call('HGET', task, 'x_failures') or '') .. job.failure .. '\n'
    local _, lines = string.gsub(failures, '\n', '')
    for _ = FAILURES + 1, lines do failures = string.match(failures, '\n(.*)$') end
    set('x_failures', failures)
  end
  redis.call('HSET', task, unpack(fields))
  -- Whatever was wanted has been done.
  redis.call('HDEL', task, 'x_owner', 'x_cancel', kind ~= 'reclaim' and 'x_lost' or 'x_owner')
end

-- Writes what read_settlements() found to be done.
local function settle(plan, most_archived, archive_age)
  local done, gone = plan.done, plan.gone
  Q, looks = plan.queue, nil
  if #done > 0 then redis.call('ZREM', Q .. 'lease', unpack(done)) end
  for _, id in ipairs(done) do leave_active(id) end
  for _, job in ipairs(plan.others) do
    redis.call('ZREM', Q .. 'lease', job.id)
    leave_active(job.id, job.kind == 'reclaim')
  end
  for _, job in ipairs(plan.others) do settle_other(job, most_archived, archive_age, gone) end
  if #gone > 0 then redis.call('DEL', unpack(gone)) end
  if plan.counters then count(plan.counters, plan.processed, plan.failed) end
end
