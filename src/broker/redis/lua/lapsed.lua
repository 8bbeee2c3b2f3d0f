-- Purpose: finds jobs of one queue whose lease has run out, and mends entries
-- that no worker can ever end.
--
-- KEYS[1]  Q:pending
-- ARGV[1]  now
-- ARGV[2]  how many at most
--
-- Returns  now, then per job five values: id, message, losses, end of its lease,
--          what an operator wants to become of it or empty
--
-- Differs from Asynq:
-- * a score with decimals is ours and by the server's clock: out when it is over.
--   A whole second is a Go worker's, by its host's clock: out 30 s later;
-- * lease entries of jobs that are not active, and ids without message, are
--   removed instead of being tried for ever;
-- * an active job without lease gets one: without it no server would ever recover
--   the job. Where it is ours, one of 30 s, which its owner may still extend; else
--   one that ends now, by Go's margin.

local T, ACTIVE, LEASES = Q .. 't:', Q .. 'active', Q .. 'lease'
local PAGE, MOST_PAGES, MOST_SWEPT = 200, 10, 10000
local limit = tonumber(ARGV[2])
expect_zsets('lease')

local answer, found, ghosts, orphans, broken = {now}, 0, {}, {}, {}
local function look(id, score)
  local task = redis.call('HMGET', T .. id, 'msg', 'state', 'x_lost', 'x_cancel')
  if not task[1] then
    broken[#broken + 1] = id
  elseif task[2] ~= 'active' then
    ghosts[#ghosts + 1] = id
  else
    answer[#answer + 1] = id
    answer[#answer + 1] = task[1]
    answer[#answer + 1] = tonumber(task[3]) or 0
    answer[#answer + 1] = micros(score)
    answer[#answer + 1] = task[4] or ''
    found = found + 1
  end
end

-- Whoever wrote these, they are over.
local margin = seconds(now - LEASE)
local all = redis.call('ZRANGEBYSCORE', LEASES, 0, margin, 'WITHSCORES', 'LIMIT', 0, limit)
for at = 1, #all, 2 do look(all[at], all[at + 1]) end
-- Between the margin and now, only ours are.
for page = 0, MOST_PAGES - 1 do
  if found >= limit then break end
  local some = redis.call('ZRANGEBYSCORE', LEASES, '(' .. margin, seconds(now), 'WITHSCORES',
    'LIMIT', page * PAGE, PAGE)
  for at = 1, #some, 2 do
    if found < limit and tonumber(some[at + 1]) % 1 ~= 0 then look(some[at], some[at + 1]) end
  end
  if #some < 2 * PAGE then break end
end
-- More active than leased: someone lost a lease.
if redis.call('LLEN', ACTIVE) > redis.call('ZCARD', LEASES) - #ghosts then
  for _, id in ipairs(redis.call('LRANGE', ACTIVE, -MOST_SWEPT, -1)) do
    if not redis.call('ZSCORE', LEASES, id) then
      if redis.call('HEXISTS', T .. id, 'msg') == 1 then
        orphans[#orphans + 1] = id
      else
        broken[#broken + 1] = id
      end
    end
  end
end

-- Whether the container its state names holds the job: then its place in active
-- is left over and nothing else.
local function elsewhere(id)
  local state = redis.call('HGET', T .. id, 'state')
  if state == 'active' then return false end
  if state == 'pending' then return redis.call('LPOS', KEYS[1], id) ~= false end
  return state and type(redis.pcall('ZSCORE', Q .. state, id)) == 'string'
end

for _, id in ipairs(broken) do
  redis.call('LREM', ACTIVE, 0, id)
  redis.call('ZREM', LEASES, id)
  redis.call('DEL', T .. id)
end
for _, id in ipairs(ghosts) do redis.call('ZREM', LEASES, id) end
if #orphans > 0 then
  before_growth()
  for _, id in ipairs(orphans) do
    if elsewhere(id) then
      redis.call('LREM', ACTIVE, 0, id)
    else
      local ours = redis.call('HEXISTS', T .. id, 'x_owner') == 1
      redis.call('ZADD', LEASES, ours and seconds(fractional(now + LEASE)) or whole(now_s), id)
      redis.call('HSET', T .. id, 'state', 'active')
    end
  end
end
return answer
