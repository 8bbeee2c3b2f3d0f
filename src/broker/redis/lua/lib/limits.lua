-- Purpose: limits of a queue: which ones count a job, whether they have room, and what happens
-- to the jobs that wait for them.
--
-- A place is held by an id in Q:x:lim:use:<pair>, where a pair is `<limit>:<key>`. Dequeue takes
-- it, settle gives it back; both compare the job's owner, so a place moves exactly when the
-- ownership does. A job without room waits: it is in Q:x:lim:wait:<pair> by its turn, and for
-- Asynq's tools it is scheduled for an hour ahead. Q:x:held has the same score as Q:scheduled:
-- if they differ, the job does not wait any more.
--
-- Q:x:lim:keys has every pair with a state, by the microsecond at which to look at it: when its
-- rate admits the next job, else within a minute, or when no start of its rate counts any more if
-- nothing else is left of it. A look lets waiting jobs go, removes holders that are not active (a Go
-- worker's recovery takes a job and not its place) and pairs without a state. The empty id in Q:x:due brings the forwarder here at the first of these instants; an
-- older version removes it, so that every start and wait, and the janitor, put it back.
--
-- All writes happen between other writes of a script, so nothing here raises an error; test()
-- does, before the first write. Keys of one pair are ours by their name: one of another type is
-- deleted. limits() makes the functions when a queue needs them: others pay nothing.
--
-- Asynq has no counterpart.

local limit_tools
local function limits()
  if limit_tools then return limit_tools end
  local tools = {}
  limit_tools = tools

  -- How long a job that waits is scheduled ahead, and when that is moved on.
  local AHEAD_S, ROLLED_S = 3600, 1800
  -- When a pair is looked at if nothing else says so.
  local LOOK = 60 * SECOND
  -- Maximum bytes of a payload in which a key is looked for, and of a key.
  local MAX_PAYLOAD, MAX_KEY = 16384, 128
  -- Bounds of one look: pairs, jobs of a pair, holders of a pair, jobs whose time is moved on.
  local MAX_PAIRS, MAX_ADMITTED, MAX_HOLDERS, MAX_ROLLED = 100, 100, 100, 200
  -- Number of pending jobs above which a look admits one job of a pair a second, so that no key
  -- starves and pending does not grow.
  local CROWDED = 1000
  -- Number of pending jobs below which a job that comes behind others of its pair lets the first of
  -- these go.
  local FEW = 100
  -- Waiting jobs that one script may still look at, over all pairs.
  local left = 1000

  -- A rate with the numbers of RateNumbers in src/job/rate.rs, which explains them.
  local function rate_of(numbers)
    if type(numbers) ~= 'table' then return nil end
    local rate = {}
    for _, name in ipairs({'per', 'spacing', 'early', 'late', 'group', 'groups'}) do
      rate[name] = tonumber(numbers[name])
      if not rate[name] then return nil end
    end
    return rate.spacing >= 1 and rate.groups >= 1 and rate or nil
  end

  -- The limits of this queue in the order of their names, and by name. If the key is of another
  -- type or an entry cannot be read, `damaged` is true and nothing is admitted.
  local loaded = {}
  local function load()
    if loaded[Q] then return loaded[Q] end
    local all, known = redis.pcall('HGETALL', Q .. 'x:limits'), {by_name = {}}
    if all.err then all, known.damaged = {}, true end
    for at = 1, #all, 2 do
      local ok, one = pcall(cjson.decode, all[at + 1])
      if ok and type(one) == 'table' then
        local types
        if type(one.types) == 'table' and #one.types > 0 then
          types = {}
          for _, name in ipairs(one.types) do types[name] = true end
        end
        local limit = {name = all[at], types = types, key = type(one.key) == 'string' and one.key,
          most = tonumber(one.concurrency), rate = rate_of(one.numbers)}
        known[#known + 1] = limit
        known.by_name[limit.name] = limit
      end
    end
    table.sort(known, function(a, b) return a.name < b.name end)
    loaded[Q] = known
    return known
  end
  tools.load = load

  -- The limit of a pair, if there still is one.
  local function limit_of(pair) return load().by_name[string.match(pair, '^[^:]*')] end

  -- Raises an error, before the first write, if a key that all pairs share is damaged.
  function tools.test()
    redis.call('HLEN', Q .. 'x:limits')
    expect_lists('pending')
    expect_zsets('scheduled', 'x:due', 'x:held', 'x:lim:keys', 'x:lim:tat')
  end

  local function use_key(pair) return Q .. 'x:lim:use:' .. pair end
  local function wait_key(pair) return Q .. 'x:lim:wait:' .. pair end
  local function starts_key(pair) return Q .. 'x:lim:starts:' .. pair end
  tools.use_key, tools.wait_key = use_key, wait_key

  -- Number of members of a key of one pair.
  local function size_of(key)
    local size = redis.pcall('ZCARD', key)
    if type(size) == 'number' then return size end
    redis.call('DEL', key)
    return 0
  end
  tools.size_of = size_of

  -- Reads a number of protobuf at `at`; returns it and the position after it.
  local function varint(msg, at)
    local value, scale = 0, 1
    for _ = 1, 10 do
      local byte = string.byte(msg, at)
      if not byte then return nil, at end
      at = at + 1
      value = value + (byte % 128) * scale
      if byte < 128 then return value, at end
      scale = scale * 128
    end
    return nil, at
  end

  -- Calls `each` with the number and the text of every field of bytes, until it returns true.
  local function each_field(msg, each)
    local at, tag, size = 1, nil, nil
    while at <= #msg do
      tag, at = varint(msg, at)
      local kind = tag and tag % 8
      if kind == 2 then
        size, at = varint(msg, at)
        if not size or at + size - 1 > #msg then return end
        if each(math.floor(tag / 8), string.sub(msg, at, at + size - 1)) then return end
        at = at + size
      elseif kind == 0 then
        tag, at = varint(msg, at)
      elseif kind == 1 then
        at = at + 8
      elseif kind == 5 then
        at = at + 4
      else
        return
      end
    end
  end

  -- Type, payload and headers of a message: fields 1, 2 and 15.
  local function read_message(msg)
    local job = {type = '', payload = '', headers = {}}
    each_field(msg, function(field, text)
      if field == 1 then
        job.type = text
      elseif field == 2 then
        job.payload = text
      elseif field == 15 then
        local name, value = '', ''
        each_field(text, function(part, word)
          if part == 1 then name = word elseif part == 2 then value = word end
        end)
        job.headers[name] = value
      end
    end)
    return job
  end

  -- The value at a path of the payload as text, or nil.
  local function in_payload(job, path)
    if #job.payload > MAX_PAYLOAD then return nil end
    if job.json == nil then
      local ok, json = pcall(cjson.decode, job.payload)
      job.json = ok and json or false
    end
    local value = job.json
    for name in string.gmatch(path, '[^.]+') do
      if type(value) ~= 'table' then return nil end
      value = value[name]
    end
    if type(value) == 'string' then return value end
    if type(value) == 'boolean' and job.json then return tostring(value) end
    if type(value) == 'number' then
      if value % 1 == 0 and math.abs(value) < 2 ^ 63 then return string.format('%.0f', value) end
      return string.format('%.17g', value)
    end
  end

  -- The key of a job for a limit; twin of Limit::key_of in src/job/limit.rs.
  local function key_of(limit, job)
    local key = limit.key
    if not key then return '' end
    local text
    if key == 'given' then
      text = job.headers['jobqueue-limit-' .. limit.name]
    elseif string.sub(key, 1, 7) == 'header.' then
      text = job.headers[string.sub(key, 8)]
    elseif string.sub(key, 1, 8) == 'payload.' then
      text = in_payload(job, string.sub(key, 9))
    end
    text = string.gsub(text or '', '%c', '?')
    if #text <= MAX_KEY then return text end
    -- Not in the middle of a character of UTF-8.
    local last = MAX_KEY
    while last > 0 do
      local next_byte = string.byte(text, last + 1)
      if next_byte < 128 or next_byte >= 192 then break end
      last = last - 1
    end
    return string.sub(text, 1, last)
  end

  -- The pairs that count a job, each with its limit.
  local function pairs_of(msg)
    local known, found, job = load(), {}, nil
    for _, limit in ipairs(known) do
      if not job and (limit.types or limit.key) then job = read_message(msg) end
      if not limit.types or limit.types[job.type] then
        found[#found + 1] = {limit = limit, name = limit.name .. ':' .. key_of(limit, job or {})}
      end
    end
    return found
  end

  -- Brings the forwarder at this instant, if it would come later.
  local function look_at(at)
    local due = Q .. 'x:due'
    if redis.pcall('ZADD', due, 'LT', 'CH', whole(math.max(0, at)), '') == 1 then
      wake_if_first('')
    end
  end

  -- Looks at a pair at this instant and no later.
  local function look_at_pair(pair, at)
    redis.pcall('ZADD', Q .. 'x:lim:keys', whole(at), pair)
    look_at(at)
  end

  -- The next planned start of a rate. One farther ahead than it can be, because the clock was set
  -- back, counts as the farthest.
  local function next_even(pair, rate)
    local at = redis.pcall('ZSCORE', Q .. 'x:lim:tat', pair)
    at = type(at) == 'string' and tonumber(at) or 0
    return math.min(at, now + rate.spacing + rate.early)
  end

  -- The planned instant of a start now. `behind`: jobs waited, so that planned starts which are
  -- late are caught up on, unless that plan is older than a window. Twin of RateNumbers::base.
  local function base_of(pair, rate, behind)
    local even = next_even(pair, rate)
    return math.max(even, behind and even > now - rate.per and now - rate.late or now)
  end

  -- One of the last starts of a pair, the newest of which has index 0: its microsecond, and how many
  -- starts its group has if that is not full.
  local function start_of(pair, index)
    local entry = redis.pcall('LINDEX', starts_key(pair), index)
    if type(entry) ~= 'string' then return nil end
    local at, starts = string.match(entry, '^(%d+):?(%d*)$')
    return tonumber(at), tonumber(starts)
  end

  -- Starts for which the newest group has room: they need not wait for the window.
  local function room_in_group(pair, rate)
    if rate.group < 2 then return 0 end
    local _, starts = start_of(pair, 0)
    return starts and math.max(0, rate.group - starts) or 0
  end

  -- When the rate of a pair admits the next start: not after now if it does now. Twin of
  -- Rate::next_at in src/job/rate.rs.
  local function rate_admits_at(pair, limit)
    local rate = limit and limit.rate
    if not rate then return 0 end
    local even = next_even(pair, rate) - rate.early
    if room_in_group(pair, rate) > 0 then return even end
    local first = start_of(pair, rate.groups - 1)
    return first and first <= now and math.max(even, first + rate.per) or even
  end
  tools.rate_admits_at = rate_admits_at

  -- How many jobs of a pair may start now, at most `most`. Twin of Rate::admits.
  local function starts_now(pair, rate, most, behind)
    local even = math.floor((now + rate.early - base_of(pair, rate, behind)) / rate.spacing) + 1
    most = math.min(most, even)
    local room, index = room_in_group(pair, rate), rate.groups - 1
    while room < most and index >= 0 do
      local at = start_of(pair, index)
      if at and at <= now and at + rate.per > now then break end
      room, index = room + rate.group, index - 1
    end
    return math.min(most, room)
  end

  -- Notes a start. Twin of Rate::start.
  local function note_start(pair, rate, behind)
    local key, base = starts_key(pair), base_of(pair, rate, behind)
    redis.pcall('ZADD', Q .. 'x:lim:tat', whole(base + rate.spacing), pair)
    local newest, starts = start_of(pair, 0)
    -- The clock was set back, or the key is of another type.
    if newest and newest > now or not newest then redis.call('DEL', key) end
    local joins = newest and newest <= now and starts and starts < rate.group
    starts = joins and starts + 1 or 1
    local entry = starts < rate.group and whole(now) .. ':' .. whole(starts) or whole(now)
    if joins then return redis.call('LSET', key, 0, entry) end
    redis.call('LPUSH', key, entry)
    redis.call('LTRIM', key, 0, rate.groups - 1)
  end

  -- When no start of a pair counts any more.
  local function rate_ends_at(pair, limit)
    local rate, newest = limit and limit.rate, start_of(pair, 0)
    if not rate then return 0 end
    return math.max(next_even(pair, rate), newest and newest <= now and newest + rate.per or 0)
  end

  -- Whether a job may take a place. One that has it may keep it.
  local function has_room(pair, limit, id)
    if limit.most and size_of(use_key(pair)) >= limit.most
      and not redis.call('ZSCORE', use_key(pair), id) then
      return false
    end
    return rate_admits_at(pair, limit) <= now
  end

  -- Forgets a pair without a state. If only starts of its rate are left, the second value is when
  -- none of them counts any more.
  local function tidy(pair, limit)
    if size_of(use_key(pair)) > 0 or size_of(wait_key(pair)) > 0 then return false end
    local ends = rate_ends_at(pair, limit)
    if ends > now then return false, ends end
    redis.pcall('ZREM', Q .. 'x:lim:tat', pair)
    redis.pcall('ZREM', Q .. 'x:lim:keys', pair)
    redis.call('DEL', starts_key(pair))
    return true
  end

  -- Takes the places of a job that becomes active. `before` is the pair for which it waited.
  local function take(id, found, turn, before)
    local names = {}
    for nth, one in ipairs(found) do
      local pair, limit = one.name, one.limit
      names[nth] = pair
      size_of(use_key(pair))
      redis.call('ZADD', use_key(pair), 'NX', whole(now), id)
      local others = limit.rate and size_of(wait_key(pair)) > 0
      if limit.rate then note_start(pair, limit.rate, before == pair) end
      if others then
        look_at_pair(pair, math.max(now, rate_admits_at(pair, limit)))
      else
        redis.pcall('ZADD', Q .. 'x:lim:keys', 'LT', whole(now + LOOK), pair)
        look_at(now + LOOK)
      end
    end
    local key, use = Q .. 't:' .. id, table.concat(names, '\n')
    redis.call('HSET', key, 'x_use', use)
    -- A job that fails keeps the turn of its first start.
    if not turn then redis.call('HSET', key, 'x_wait', whole(now) .. ':') end
  end

  -- A job's turn and the pair for which it waited last.
  local function waited(x_wait)
    if not x_wait then return nil, nil end
    local turn, pair = string.match(x_wait, '^(%d+):(.*)$')
    return tonumber(turn), pair ~= '' and pair or nil
  end

  -- Lets a job wait that has just left pending. Its turn stays if it had one.
  local function park(id, pair, limit, turn)
    local key = wait_key(pair)
    size_of(key)
    if not turn then
      local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
      turn = math.max(now, tonumber(last or 0) + 1)
    end
    redis.call('ZADD', key, whole(turn), id)
    redis.pcall('ZADD', Q .. 'x:held', whole(now_s + AHEAD_S), id)
    redis.pcall('ZADD', Q .. 'scheduled', whole(now_s + AHEAD_S), id)
    redis.call('HSET', Q .. 't:' .. id, 'state', 'scheduled', 'x_wait', whole(turn) .. ':' .. pair)
    redis.call('HDEL', Q .. 't:' .. id, 'pending_since')
    local at = rate_admits_at(pair, limit)
    if at > now then
      look_at_pair(pair, at)
    else
      redis.pcall('ZADD', Q .. 'x:lim:keys', 'LT', whole(now + LOOK), pair)
      look_at(now + LOOK)
    end
  end

  -- Whether a job waits, and its score in Q:scheduled.
  local function still_waits(id)
    local score = redis.pcall('ZSCORE', Q .. 'x:held', id)
    if type(score) ~= 'string' or redis.pcall('ZSCORE', Q .. 'scheduled', id) ~= score then
      return false
    end
    return redis.pcall('HGET', Q .. 't:' .. id, 'state') == 'scheduled'
  end

  -- Makes waiting jobs of a pair pending, at most `most` of them and no more than have room.
  -- Returns how many. They go to the head of the list, which is fair between keys; dequeue
  -- decides again.
  local function admit(pair, most)
    local known, key = load(), wait_key(pair)
    if known.damaged or size_of(key) == 0 then return 0 end
    local limit = limit_of(pair)
    if limit and limit.most then most = math.min(most, limit.most - size_of(use_key(pair))) end
    if limit and limit.rate then most = starts_now(pair, limit.rate, most, true) end
    local admitted, looked = 0, 0
    while admitted < most and looked < 2 * MAX_ADMITTED and left > 0 do
      local ids = redis.call('ZRANGE', key, 0, math.min(most - admitted, left) - 1)
      if #ids == 0 then break end
      for _, id in ipairs(ids) do
        looked, left = looked + 1, left - 1
        redis.call('ZREM', key, id)
        if still_waits(id) then
          redis.pcall('ZREM', Q .. 'x:held', id)
          redis.pcall('ZREM', Q .. 'scheduled', id)
          redis.pcall('LPUSH', Q .. 'pending', id)
          redis.call('HSET', Q .. 't:' .. id, 'state', 'pending', 'pending_since', now_ns())
          admitted = admitted + 1
        end
      end
    end
    return admitted, admitted < most and (looked >= 2 * MAX_ADMITTED or left <= 0)
  end

  -- Admits one job of a pair for a place that became free. If its rate has to wait, the pair is
  -- looked at then.
  local function pass_on(pair)
    local admitted, more = admit(pair, 1)
    if admitted > 0 or tidy(pair, limit_of(pair)) then return end
    if more then return look_at_pair(pair, now) end
    if size_of(wait_key(pair)) == 0 then return end
    local at = rate_admits_at(pair, limit_of(pair))
    if at > now then look_at_pair(pair, at) end
  end

  -- Gives the places of a job back. `x_use` is the field of its hash.
  function tools.give(id, x_use)
    for pair in string.gmatch(x_use, '[^\n]+') do
      size_of(use_key(pair))
      redis.call('ZREM', use_key(pair), id)
      pass_on(pair)
    end
  end

  -- Decides about a job that was just taken out of pending: true if it takes its places, or it
  -- waits for the first limit without room. It waits too if others of its key waited before it;
  -- then the first of them goes in its place.
  function tools.admits(id, msg, x_wait)
    local turn, before = waited(x_wait)
    local found = pairs_of(msg)
    for _, one in ipairs(found) do
      local pair, limit = one.name, one.limit
      local room, passes = has_room(pair, limit, id), true
      if size_of(wait_key(pair)) > 0 then
        local first = redis.call('ZRANGE', wait_key(pair), 0, 0, 'WITHSCORES')
        passes = first[1] == id or turn and turn <= tonumber(first[2])
      end
      if not room or not passes then
        park(id, pair, limit, turn)
        if room then pass_on(pair) end
        -- It was let go for another pair, whose place is still free.
        if before and before ~= pair then pass_on(before) end
        return false
      end
    end
    if before then
      redis.pcall('ZREM', wait_key(before), id)
      -- It was twice in pending.
      if redis.pcall('ZREM', Q .. 'x:held', id) == 1 then redis.pcall('ZREM', Q .. 'scheduled', id) end
    end
    if #found > 0 then take(id, found, turn, before) end
    return true
  end

  -- A job that was let go does not take its places after all: others may.
  function tools.decline(msg)
    for _, one in ipairs(pairs_of(msg)) do pass_on(one.name) end
  end

  -- Takes the places of a job whose attempt goes on after a recovery, whether there is room or
  -- not.
  function tools.take_back(id)
    local msg = redis.pcall('HGET', Q .. 't:' .. id, 'msg')
    local found = type(msg) == 'string' and pairs_of(msg) or {}
    if #found > 0 then take(id, found, 0) end
  end

  -- How many jobs of a pair that did not wait may start now.
  local function room_of(pair, limit)
    local room = MAX_ADMITTED
    if limit.most then room = math.min(room, limit.most - size_of(use_key(pair))) end
    if limit.rate then room = starts_now(pair, limit.rate, room, false) end
    return room
  end

  -- Moves jobs without room that were just added to pending at its head to where they wait. What
  -- stands in pending has no place yet, so of one call only as many of a pair stay as may start.
  -- Starting one of them brings the next. All get turns, behind that of the job that was added
  -- last, so that those that stay are before those that wait.
  function tools.hold_back(ids)
    local rooms, next_turn = {}, now
    local newest = redis.pcall('LINDEX', Q .. 'pending', #ids)
    local before = type(newest) == 'string' and redis.pcall('HGET', Q .. 't:' .. newest, 'x_wait')
    local last = waited(type(before) == 'string' and before)
    if last and last < now + SECOND then next_turn = math.max(now, last + 1) end
    for _, id in ipairs(ids) do
      local task = redis.pcall('HMGET', Q .. 't:' .. id, 'msg', 'x_wait', 'state')
      local turn = waited(task[2])
      local found = task[1] and task[3] == 'pending' and pairs_of(task[1]) or {}
      local stays = true
      for _, one in ipairs(found) do
        local pair, limit = one.name, one.limit
        rooms[pair] = rooms[pair] or room_of(pair, limit)
        if rooms[pair] < 1 or size_of(wait_key(pair)) > 0 or not has_room(pair, limit, id) then
          stays = false
          if redis.pcall('LREM', Q .. 'pending', 1, id) == 1 then
            if not turn then
              size_of(wait_key(pair))
              local behind = redis.call('ZRANGE', wait_key(pair), -1, -1, 'WITHSCORES')[2]
              turn = math.max(next_turn, tonumber(behind or 0) + 1)
              next_turn = turn + 1
            end
            park(id, pair, limit, turn)
            if has_room(pair, limit, id) then
              local pending = redis.pcall('LLEN', Q .. 'pending')
              if rooms[pair] > 0 and type(pending) == 'number' and pending < FEW then
                pass_on(pair)
              else
                -- Those in pending are of this pair, or probably so. If they are deleted, nothing
                -- starts that brings the next.
                redis.pcall('ZADD', Q .. 'x:lim:keys', 'LT', whole(now + SECOND), pair)
                look_at(now + SECOND)
              end
            end
          end
          break
        end
      end
      if stays and #found > 0 then
        for _, one in ipairs(found) do rooms[one.name] = rooms[one.name] - 1 end
        if not turn then
          redis.call('HSET', Q .. 't:' .. id, 'x_wait', whole(next_turn) .. ':')
          next_turn = next_turn + 1
        end
      end
    end
  end

  -- Looks at one pair; see the beginning.
  local function look(pair, crowded)
    local limit = limit_of(pair)
    size_of(use_key(pair))
    for _, id in ipairs(redis.call('ZRANDMEMBER', use_key(pair), MAX_HOLDERS)) do
      if redis.pcall('HGET', Q .. 't:' .. id, 'state') ~= 'active' then
        redis.call('ZREM', use_key(pair), id)
      end
    end
    local admitted, more = admit(pair, crowded and 1 or MAX_ADMITTED)
    local is_gone, rate_ends = tidy(pair, limit)
    if is_gone then return end
    local at = rate_ends or now + LOOK
    if size_of(wait_key(pair)) > 0 then
      -- Dequeuing an admitted job takes the token and says when the next is. If none is
      -- dequeued, this is the next look.
      local rate = rate_admits_at(pair, limit)
      if rate > now then at = math.min(at, rate) end
      if limit and limit.rate and admitted > 0 then at = now + 5 * SECOND end
      if admitted >= MAX_ADMITTED then at = limit and now + SECOND or now end
      if crowded then at = math.min(at, now + SECOND) elseif more then at = now end
    end
    redis.pcall('ZADD', Q .. 'x:lim:keys', whole(at), pair)
  end

  -- Moves the time on for which waiting jobs are scheduled.
  local function roll()
    local held = redis.pcall('ZRANGEBYSCORE', Q .. 'x:held', '-inf', whole(now_s + ROLLED_S),
      'LIMIT', 0, MAX_ROLLED)
    for _, id in ipairs(held.err and {} or held) do
      local x_wait = redis.pcall('HGET', Q .. 't:' .. id, 'x_wait')
      local turn, pair = waited(type(x_wait) == 'string' and x_wait)
      if pair and still_waits(id) then
        redis.pcall('ZADD', Q .. 'x:held', whole(now_s + AHEAD_S), id)
        redis.pcall('ZADD', Q .. 'scheduled', whole(now_s + AHEAD_S), id)
        -- Where it waits may have been lost.
        size_of(wait_key(pair))
        redis.call('ZADD', wait_key(pair), whole(turn), id)
        redis.pcall('ZADD', Q .. 'x:lim:keys', 'NX', whole(now), pair)
      else
        redis.pcall('ZREM', Q .. 'x:held', id)
      end
    end
  end

  -- Looks at all pairs whose instant has come, moves times on, and notes when to come again.
  function tools.look_around()
    local due = redis.pcall('ZRANGEBYSCORE', Q .. 'x:lim:keys', '-inf', whole(now), 'LIMIT', 0,
      MAX_PAIRS)
    local pending = redis.pcall('LLEN', Q .. 'pending')
    local crowded = type(pending) ~= 'number' or pending > CROWDED
    for _, pair in ipairs(due.err and {} or due) do look(pair, crowded) end
    roll()
    local first = redis.pcall('ZRANGE', Q .. 'x:lim:keys', 0, 0, 'WITHSCORES')[2]
    local held = redis.pcall('ZRANGE', Q .. 'x:held', 0, 0, 'WITHSCORES')[2]
    if first then look_at(tonumber(first)) end
    if held then look_at((tonumber(held) - ROLLED_S) * SECOND) end
  end

  -- What read_limits.lua says of a pair.
  function tools.state_of(pair)
    local use, limit = use_key(pair), limit_of(pair)
    local using = redis.pcall('ZCARD', use)
    local waiting = redis.pcall('ZCARD', wait_key(pair))
    local first = redis.pcall('ZRANGE', use, 0, 0, 'WITHSCORES')[2]
    local next_at = limit and rate_admits_at(pair, limit) or 0
    return {pair, type(using) == 'number' and using or 0, type(waiting) == 'number' and waiting or 0,
      first and tonumber(first) or -1, next_at > now and next_at or -1}
  end

  -- How a job stands that waits: the state of its pair, maximum jobs that hold a place or -1, and
  -- how many wait before it. Empty if it does not wait.
  function tools.standing_of(id, state, x_wait)
    local _, pair = waited(x_wait)
    if state ~= 'scheduled' or not pair then return {} end
    local limit, answer = limit_of(pair), tools.state_of(pair)
    local before = redis.pcall('ZRANK', wait_key(pair), id)
    answer[6] = limit and limit.most or -1
    answer[7] = type(before) == 'number' and before or 0
    return answer
  end

  return tools
end
