-- Purpose: carries out what was decided about active jobs of one queue, each
-- only if it is still the caller's.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  0, or how often this very call was sent before without an answer
-- ARGV[3]  most archived jobs
-- ARGV[4]  seconds they are kept
-- ARGV[5…] per job nine values:
--          id, owner or empty, end of the lease as the caller knows it,
--          kind (delete | complete | retry | snooze | archive | requeue | reclaim),
--          new message or empty to keep it, microseconds (delay of retry and
--          snooze, retention of complete), 1 if there is a result, the result,
--          key of the unique lock to release or empty: where the job would wait,
--          the one that archiving it releases
--
-- Returns  now, then per job 1 (done), 2 (archived or 3 deleted instead, as an
--          operator wanted) or 0 (lost, nothing changed). A job lost in a
--          repetition counts as done: the earlier sending did it.
--
-- Differs from Asynq:
-- * everything is tested before the first write, and the first write does not
--   grow memory;
-- * a lease of another owner is refused; a missing lease is not, while the job
--   is active: keys can get lost, work should not;
-- * the archive is trimmed before a job is added, by a bounded number, so that no
--   number of old jobs makes it fail and the new one is not trimmed itself; hashes
--   and unique locks go with the ids;
-- * requeue sets pending_since, and Q:retry's score is rounded up, with the exact
--   due time in Q:x:due;
-- * what an operator wants of a job (x_cancel) is done to it here where its attempt
--   ended before it was told: nobody is to wait for it as long as a retry does;
-- * reclaim (the worker vanished) makes the job the next one and counts the loss
--   in x_lost, where Asynq's recoverer counts a retry and waits.

local T, ACTIVE, LEASES, DUE = Q .. 't:', Q .. 'active', Q .. 'lease', Q .. 'x:due'
local ARCHIVED = Q .. 'archived'
local MOST_ARCHIVED, ARCHIVE_AGE = tonumber(ARGV[3]), tonumber(ARGV[4])
local repeated = tonumber(ARGV[2]) > 0
expect_lists('pending', 'active')
expect_zsets('lease', 'retry', 'archived', 'completed', 'x:due', 'x:grouped')
expect_counters()

-- An attempt that ends as one of these leaves the job to be taken again.
local WAITS = {retry = true, snooze = true, requeue = true, reclaim = true}
local WISHES = {archive = 2, delete = 3}

local jobs, answer, seen = {}, {now}, {}
local processed, failed = 0, 0
for at = 5, #ARGV, 9 do
  local job = {
    id = ARGV[at], kind = ARGV[at + 3], msg = ARGV[at + 4],
    time = tonumber(ARGV[at + 5]), result = ARGV[at + 6] == '1' and ARGV[at + 7],
    lock = ARGV[at + 8],
  }
  local task =
    redis.call('HMGET', T .. job.id, 'state', 'x_owner', 'x_lost', 'group', 'x_cancel')
  if not seen[job.id] and held(job.id, ARGV[at + 1], tonumber(ARGV[at + 2]), task[1], task[2]) then
    seen[job.id] = true
    job.losses = tonumber(task[3]) or 0
    job.grouped = task[4] and task[4] ~= ''
    job.wish = task[5]
    job.left = job.kind == 'reclaim' and -1 or 1
    local done = 1
    if WAITS[job.kind] then
      done = WISHES[job.wish] or done
      if done == 1 then job.lock = '' else job.kind = job.wish end
    end
    job.unlock = job.lock ~= '' and redis.call('GET', job.lock) == job.id
    jobs[#jobs + 1] = job
    if job.kind == 'delete' or job.kind == 'complete' then processed = processed + 1 end
    if job.kind == 'retry' or job.kind == 'archive' then
      processed, failed = processed + 1, failed + 1
    end
    answer[#answer + 1] = done
  else
    answer[#answer + 1] = repeated and 1 or 0
  end
end
if #jobs == 0 then return answer end

-- Writes from here on.
for _, job in ipairs(jobs) do
  redis.call('ZREM', LEASES, job.id)
  if redis.call('LREM', ACTIVE, job.left, job.id) == 0 then
    redis.call('LREM', ACTIVE, 0, job.id)
  end
end

for _, job in ipairs(jobs) do
  local id, task = job.id, T .. job.id
  local fields = {}
  local function set(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if job.msg ~= '' then set('msg', job.msg) end

  if job.kind == 'delete' then
    if job.wish == 'delete' then release(id) end
    redis.call('DEL', task)
  elseif job.kind == 'complete' then
    redis.call('ZADD', Q .. 'completed', whole(now_s + math.ceil(job.time / SECOND)), id)
    set('state', 'completed')
    if job.result then set('result', job.result) end
  elseif job.kind == 'retry' or job.kind == 'snooze' then
    local due = bounded(now + job.time)
    redis.call('ZADD', Q .. 'retry', whole(shown(due)), id)
    redis.call('ZADD', DUE, whole(due), id)
    -- Whoever forwards it puts it into its group, and a Go forwarder tells nobody.
    if job.grouped then redis.call('ZADD', Q .. 'x:grouped', whole(shown(due)), id) end
    wake_if_first(id)
    set('state', 'retry')
  elseif job.kind == 'archive' then
    make_room(MOST_ARCHIVED, ARCHIVE_AGE)
    redis.call('ZADD', ARCHIVED, whole(now_s), id)
    set('state', 'archived')
  else
    redis.call('RPUSH', KEYS[1], id)
    set('state', 'pending')
    set('pending_since', now_ns())
    if job.kind == 'reclaim' then set('x_lost', job.losses + 1) end
  end

  if job.kind ~= 'delete' then
    redis.call('HSET', task, unpack(fields))
    -- Whatever was wanted has been done.
    redis.call('HDEL', task, 'x_owner', 'x_cancel', job.kind ~= 'reclaim' and 'x_lost' or 'x_owner')
  end
  if job.unlock then redis.call('DEL', job.lock) end
end
count(processed, failed)
return answer
