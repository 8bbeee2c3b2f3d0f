-- Purpose: adds what a worker has counted of its job types to the statistics.
--
-- KEYS[1]  asynq:x:{…types}:versions. It selects the Cluster slot; all other keys have the
--          same beginning
-- ARGV[1]  now in microseconds since 1970, or empty for the clock of this server
-- ARGV[2]  version of the worker's application, or empty
-- ARGV[3]  maximum number of types in a slice of time
-- ARGV[4]  maximum number of versions
-- ARGV[5]  maximum number of attempts of a type that are remembered
-- ARGV[6…] four values per type: name, record, its slowest attempts, and the newest that failed,
--          both as JSON or empty
--
-- Returns  now
--
-- A record: attempts that succeeded and that failed, as numbers of seven bits per byte, the
-- lowest first; then two histograms, of run times and of waits. A histogram: the number of
-- buckets, and if there are any the first one, the bytes of a count, and the counts, the lowest
-- byte first; see src/job/sketch.rs. Records add up number by number: of a stored one only the
-- counts that change are touched, so a call takes some 0.1 ms per type. A record that cannot be
-- read is replaced.
--
-- Asynq has no counterpart. The keys belong to no queue, so common.lua is not used. A key of
-- another type is left as it is.

local T = string.sub(KEYS[1], 1, -9)
local OTHER = '(other)'
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local now_s = math.floor(now / 1000000)
local byte, char, floor = string.byte, string.char, math.floor

local function whole(number)
  return string.format('%d', number)
end

-- Reads a number of seven bits per byte; also returns where the rest begins. Fails if there is
-- none.
local function number(text, at)
  local value, unit = 0, 1
  while true do
    local digit = byte(text, at)
    at = at + 1
    if digit < 128 then return value + digit * unit, at end
    value, unit = value + (digit - 128) * unit, unit * 128
  end
end

local function put(parts, value)
  while value >= 128 do
    parts[#parts + 1] = char(value % 128 + 128)
    value = floor(value / 128)
  end
  parts[#parts + 1] = char(value)
end

-- A count of so many bytes.
local function count(text, at, width)
  if width == 1 then return byte(text, at) end
  local value = 0
  for place = at + width - 1, at, -1 do value = value * 256 + byte(text, place) end
  return value
end

local function bytes(value, width)
  if width == 1 then return char(value) end
  local digits = {}
  for place = 1, width do
    digits[place] = char(value % 256)
    value = floor(value / 256)
  end
  return table.concat(digits)
end

-- Where the counts of a histogram are: number of buckets, the first one, bytes of a count, where
-- the counts begin, and where the rest of the record begins. Fails if the text is too short.
local function histogram(text, at)
  local size = byte(text, at)
  if size == 0 then return {size = 0, from = at + 1, to = at + 1} end
  local first, width = byte(text, at + 1), byte(text, at + 2)
  local to = at + 3 + size * width
  if width < 1 or to > #text + 1 then
    error('too short')
  end
  return {size = size, first = first, width = width, from = at + 3, to = to}
end

-- A record of ARGV: its counters, and of each histogram the buckets with a count, and the text.
local function read(text)
  local new, at = {}, 1
  new.succeeded, at = number(text, at)
  new.failed, at = number(text, at)
  for nth = 1, 2 do
    local begin, h = at, histogram(text, at)
    at = h.to
    h.text, h.counts = string.sub(text, begin, at - 1), {}
    for place = 0, h.size - 1 do
      local value = count(text, h.from + place * h.width, h.width)
      if value > 0 then h.counts[#h.counts + 1] = {h.first + place, value} end
    end
    new[nth] = h
  end
  return new
end

-- Appends the sum of a stored histogram and a new one, whatever their buckets and widths.
local function widen(parts, text, h, new)
  local first = math.min(h.first, new.first)
  local last = math.max(h.first + h.size, new.first + new.size) - 1
  local sums, most = {}, 0
  for place = 0, h.size - 1 do
    sums[h.first + place] = count(text, h.from + place * h.width, h.width)
  end
  for _, one in ipairs(new.counts) do sums[one[1]] = (sums[one[1]] or 0) + one[2] end
  for bucket = first, last do most = math.max(most, sums[bucket] or 0) end
  local width = 1
  while most >= 256 ^ width do width = width + 1 end
  parts[#parts + 1] = char(last - first + 1, first, width)
  for bucket = first, last do parts[#parts + 1] = bytes(sums[bucket] or 0, width) end
end

-- Appends the sum of a stored histogram and a new one.
local function grow(parts, text, h, new)
  local fits = new.first >= h.first and new.first + new.size <= h.first + h.size
  local limit, changes = 256 ^ h.width, {}
  for nth, one in ipairs(fits and new.counts or {}) do
    local at = h.from + (one[1] - h.first) * h.width
    local value = count(text, at, h.width) + one[2]
    if value >= limit then
      fits = false
      break
    end
    changes[nth] = {at, value}
  end
  if not fits then return widen(parts, text, h, new) end
  local from = h.from - 3
  for _, change in ipairs(changes) do
    parts[#parts + 1] = string.sub(text, from, change[1] - 1)
    parts[#parts + 1] = bytes(change[2], h.width)
    from = change[1] + h.width
  end
  parts[#parts + 1] = string.sub(text, from, h.to - 1)
end

local known = {}
-- The sum of a stored record and a new one.
local function sum(stored, text)
  local new, parts, at, value = known[text] or read(text), {}, 1, nil
  known[text] = new
  value, at = number(stored, at)
  put(parts, value + new.succeeded)
  value, at = number(stored, at)
  put(parts, value + new.failed)
  for nth = 1, 2 do
    local begin, h = at, histogram(stored, at)
    at = h.to
    if h.size == 0 then
      parts[#parts + 1] = new[nth].text
    elseif new[nth].size == 0 then
      parts[#parts + 1] = string.sub(stored, begin, at - 1)
    else
      grow(parts, stored, h, new[nth])
    end
  end
  return table.concat(parts)
end

-- Adds two lists of attempts and keeps those with the greatest value at a place: 1 the slowest,
-- 2 the newest.
local function best(place)
  return function(a, b)
    local all = cjson.decode(b)
    for _, attempt in ipairs(cjson.decode(a)) do
      -- Compared below; anything else is no attempt.
      if type(attempt[place]) == 'number' then all[#all + 1] = attempt end
    end
    table.sort(all, function(one, other) return one[place] > other[place] end)
    local kept = {}
    for nth = 1, math.min(#all, tonumber(ARGV[5])) do kept[nth] = all[nth] end
    return cjson.encode(kept)
  end
end

local names = {}
for at = 6, #ARGV, 4 do names[#names + 1] = ARGV[at] end

-- The new fields of a hash: of each type the stored value and the one in ARGV, `after` its name,
-- added up. A type for which there is no room is added to the others.
local function added(key, after, add)
  local size = redis.pcall('HLEN', key)
  if type(size) ~= 'number' or #names == 0 then return {} end
  local stored = redis.call('HMGET', key, OTHER, unpack(names))
  local values, fields = {[OTHER] = stored[1] or nil}, {}
  local changed = {}
  for nth, name in ipairs(names) do
    local new, old = ARGV[6 + (nth - 1) * 4 + after], stored[nth + 1]
    if new ~= '' then
      if old then
        values[name] = values[name] or old
      elseif name ~= OTHER and values[name] == nil then
        if size >= tonumber(ARGV[3]) then name = OTHER else size = size + 1 end
      end
      local ok, both = false, nil
      if values[name] then ok, both = pcall(add, values[name], new) end
      values[name] = ok and both or new
      changed[name] = true
    end
  end
  for name in pairs(changed) do
    fields[#fields + 1] = name
    fields[#fields + 1] = values[name]
  end
  return fields
end

local writes = {}
local function write(key, fields, seconds)
  if #fields > 0 then writes[#writes + 1] = {key, fields, seconds} end
end
-- Length of each slice and how long it is kept, in seconds; see src/broker/type_stats.rs.
for _, slice in ipairs({{'m', 300, 4200}, {'h', 3600, 93600}, {'d', 86400, 1296000}}) do
  local key = T .. slice[1] .. ':' .. whole(now_s - now_s % slice[2])
  write(key, added(key, 1, sum), slice[3])
end
local day = whole(now_s - now_s % 86400)
for place, letter in ipairs({'s', 'f'}) do
  local key = T .. letter .. ':' .. day
  write(key, added(key, place + 1, best(place)), 180000)
end

local version, old = ARGV[2], nil
if version ~= '' and type(redis.pcall('HLEN', KEYS[1])) == 'number' then
  local seen = redis.call('HGET', KEYS[1], version)
  local first = seen and string.match(seen, '^%d+') or whole(now_s)
  write(KEYS[1], {version, first .. ' ' .. whole(now_s)}, 1728000)
  if not seen and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[4]) then
    local all, least = redis.call('HGETALL', KEYS[1]), nil
    for at = 1, #all, 2 do
      local last = tonumber(string.match(all[at + 1], '%d+$') or 0)
      if not least or last < least then old, least = all[at], last end
    end
  end
end

if old then redis.call('HDEL', KEYS[1], old) end
for _, one in ipairs(writes) do
  redis.call('HSET', one[1], unpack(one[2]))
  redis.call('EXPIRE', one[1], one[3])
end
return {now}
