-- Purpose: stores jobs that another store exported, each as it was and where it was.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2…] jobs, each: id; key of its list or sorted set after Q; score or empty for a list;
--          exact due time in microseconds or empty; group or empty; number of texts n;
--          n texts: the fields of its hash and their values
--
-- Returns  now, then per job: 1 stored | 0 the id is in use, and nothing was changed
--
-- Asynq has no counterpart. Order of effects as for a new job: hash, then list or sorted set.
-- A pending job becomes the last one. A group is added to Q:groups, or to Q:x:grouped while
-- its job still waits for its due time.

local jobs, at = {}, 2
while at <= #ARGV do
  local texts = tonumber(ARGV[at + 5])
  local job = {id = ARGV[at], list = ARGV[at + 1], score = ARGV[at + 2], due = ARGV[at + 3],
    group = ARGV[at + 4], fields = {}}
  for nth = 1, texts do
    job.fields[nth] = ARGV[at + 5 + nth]
    if nth % 2 == 0 and job.fields[nth - 1] == 'x_start_by' then job.start_by = job.fields[nth] end
  end
  jobs[#jobs + 1] = job
  at = at + 6 + texts
end

for _, job in ipairs(jobs) do
  if job.score == '' then expect_lists(job.list) else expect_zsets(job.list) end
  if job.due ~= '' then expect_zsets('x:due') end
  if job.start_by then expect_zsets('x:start_by') end
  if job.group ~= '' then
    expect_zsets('x:grouped')
    redis.call('SCARD', Q .. 'groups')
  end
end

local answer = {now}
for nth, job in ipairs(jobs) do
  local task = Q .. 't:' .. job.id
  if redis.call('EXISTS', task) == 1 then
    answer[nth + 1] = 0
  else
    redis.call('HSET', task, unpack(job.fields))
    if job.score == '' then
      redis.call('LPUSH', Q .. job.list, job.id)
    else
      redis.call('ZADD', Q .. job.list, job.score, job.id)
    end
    if job.due ~= '' then
      redis.call('ZADD', Q .. 'x:due', job.due, job.id)
      if job.group ~= '' then redis.call('ZADD', Q .. 'x:grouped', job.score, job.id) end
    elseif job.group ~= '' then
      redis.call('SADD', Q .. 'groups', job.group)
    end
    if job.start_by then redis.call('ZADD', Q .. 'x:start_by', job.start_by, job.id) end
    answer[nth + 1] = 1
  end
end
return answer
