#!lua
-- What all scripts share: groups of counters, reservations, and the index of what is open. It stands before each of them.
--
-- A script computes on tables and writes at its end, in flush(): each key is read before the first write, so one that fails because its
-- slot is just moving to another node has changed nothing.
--
-- KEYS[1]  <prefix>{tag}i: a sorted set, all scores 0, of two kinds of members.
--            slot(6) time(16) id(32) ',' workspace (',' column)*  each open reservation; its own expiry, or 9999999999999999
--            '~' time(16) id(32)                                  each one that waits for the ledger, by when it is asked
--          Beside it, with the same tag and so in the same slot of a cluster:
--          <prefix>{tag}g:workspace,column   a hash: one group of counters
--            e  epoch in which it is right          n  generation: which holds count in it
--            b  when it was built; absent: not live t  token of the rebuild that runs     s, w  since when, and how long others wait
--            a  epoch in which the workspace's open reservations were last compared with the ledger (only in its group '*')
--            c  when to look for ended periods      u  when its time to live was set
--            unit kind start ',' end ',' feature   a counter: held, and of its newest row spent and version
--          <prefix>{tag}r:id                 a reservation, see below
-- ARGV[1]  a MessagePack array: now, and the moment of the store's clock from which on the caller has given up, in microseconds; then what
--          the script says.
-- Answers  {word, the store's clock, ...}
local call, pack, sub, format, byte = redis.call, cmsgpack.pack, string.sub, string.format, string.byte
local q = cmsgpack.unpack(ARGV[1])
local now = q[1]
local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
if clock > q[2] then
  return {'late', clock}
end

-- Doubles below this are exact, and so are sums of two of them.
local EXACT = 4503599627370496
local HOUR, DAY, CLAIM_OPEN, HOLD_MAX = 3600000000, 86400000000, 60000000, 604800000000
local NEVER, UNKNOWN = '9999999999999999', '00000000000000000000000000000000'
-- How many expired holds one script ends; the caller asks again while there are more.
local EXPIRED_MAX = 200

local index, base
local groups, records, moves = {}, {}, {}
local function turn_to(key)
  index, base = key, sub(key, 1, -2)
end
turn_to(KEYS[1])

-- A process that becomes primary, by its start or by a promotion, draws a new replication id.
local known_epoch
local function epoch()
  if not known_epoch then
    local info = call('INFO', 'replication')
    local _, last = string.find(info, 'master_replid:', 1, true)
    known_epoch = sub(info, last + 1, last + 40)
  end
  return known_epoch
end

local function moment(micros)
  return format('%016.0f', micros)
end

-- Whole numbers are doubles while that is exact, and decimal text beyond it. Text is split into thousand-millions and the rest.
local function split(value)
  if type(value) == 'number' then
    local rest = math.fmod(value, 1e9)
    return (value - rest) / 1e9, rest
  end
  local sign, digits = string.match(value, '^(-?)(%d+)$')
  local high, low = tonumber(sub(digits, 1, -10)) or 0, tonumber(sub(digits, -9))
  if sign == '-' then
    return -high, -low
  end
  return high, low
end

-- held + amount, never below zero.
local function plus(held, amount)
  if type(held) == 'number' then
    local sum = held + amount
    if sum < EXACT then
      return sum > 0 and sum or 0
    end
  end
  local high, low = split(held)
  local more_high, more_low = split(amount)
  high, low = high + more_high, low + more_low
  if low < 0 then
    high, low = high - 1, low + 1e9
  elseif low >= 1e9 then
    high, low = high + 1, low - 1e9
  end
  if high < 0 then
    return 0
  elseif high * 1e9 < EXACT then
    return high * 1e9 + low
  end
  return format('%.0f%09.0f', high, low)
end

-- limit - spent - held: exact where it is below EXACT, and at least that large where it is not; the same below zero.
local function room(limit, spent, held)
  if type(limit) == 'number' and type(spent) == 'number' and type(held) == 'number' then
    return limit - spent - held
  end
  local high, low = split(limit)
  local spent_high, spent_low = split(spent)
  local held_high, held_low = split(held)
  return (high - spent_high - held_high) * 1e9 + (low - spent_low - held_low)
end

local function group(workspace, column)
  local key = base .. 'g:' .. workspace .. ',' .. column
  local known = groups[key]
  if not known then
    known = {key = key, cells = {}, changed = {}, meta = {}, drop = {}}
    groups[key] = known
  end
  return known
end

local META = {'e', 'n', 'b', 't', 's', 'w', 'a', 'c', 'u'}
-- Reads what was not read yet of a group: its own fields, and these counters as {held, spent, version}; false: not there.
local function fetch(g, fields)
  local names, cells = {}, g.cells
  if not g.read then
    for i = 1, #META do
      names[i] = META[i]
    end
  end
  local own = #names
  for i = 1, #fields do
    if cells[fields[i]] == nil then
      cells[fields[i]] = false
      names[#names + 1] = fields[i]
    end
  end
  local values = {}
  for from = 1, #names, 1000 do
    local some = call('HMGET', g.key, unpack(names, from, math.min(from + 999, #names)))
    for i = 1, #some do
      values[from + i - 1] = some[i]
    end
  end
  if not g.read then
    g.read = true
    for i = 1, own do
      g[names[i]] = values[i] or nil
    end
    g.b = tonumber(g.b)
  end
  for i = own + 1, #names do
    if values[i] then
      cells[names[i]] = {cmsgpack.unpack(values[i])}
    end
  end
  return g
end

local function write(g, name, value)
  g[name], g.dirty = value, true
  g.meta[#g.meta + 1] = name
  g.meta[#g.meta + 1] = value
end

local function erase(g, name)
  g[name], g.dirty = nil, true
  g.drop[#g.drop + 1] = name
end

-- The counter to change, made if it is not there.
local function cell(g, field)
  local found = g.cells[field]
  if not found then
    found = {0}
    g.cells[field], g.grew = found, true
  end
  g.changed[field], g.dirty = true, true
  return found
end

-- Copies a row if it is newer than the one that is here.
local function set(g, field, spent, version)
  local known = g.cells[field]
  if not known or not known[3] or known[3] < version then
    known = cell(g, field)
    known[2], known[3] = spent, version
  end
end

-- Requests of a minute or hour: a rate counts attempts, so they stay held when a reservation is released or expires.
local function is_sticky(field)
  local unit, kind = byte(field, 1, 2)
  return unit == 82 and (kind == 109 or kind == 104)
end

-- A reservation is an array; of one that was settled or released only the first four places are kept.
local END, ENDED_AT, WORKSPACE, FINGERPRINT, CHARGED, HELD_AT, EXPIRES_AT = 1, 2, 3, 4, 5, 6, 7
-- CLAIM is 0, 1 (up to the four amounts from CLAIMED on) or 2 (final). Amounts are tokens, usd, requests, credits.
local CLAIM, CLAIMED_AT, CLAIMED, USED, RUNG, OUTPUT, TAKEN, CONTEXT, NONCE = 8, 9, 10, 14, 18, 19, 20, 24, 25
-- HOLDERS: column and generation of each group. COUNTERS: holder, field, unit, and the balance before: spent, held.
local HOLDERS, COUNTERS = 26, 27
local SETTLED, RELEASED, EXPIRED = 1, 2, 3

local function record(id)
  local known = records[id]
  if known == nil then
    local value = call('GET', base .. 'r:' .. id)
    known = {key = base .. 'r:' .. id, r = value and cmsgpack.unpack(value)}
    records[id] = known
  end
  return known.r or nil
end

local function put(id, r)
  local known = records[id]
  if not known then
    known = {key = base .. 'r:' .. id}
    records[id] = known
  end
  known.r, known.dirty = r, true
end

-- Where a live hold stands in the index: its member, the one by which it waits for the ledger, and when it ends by itself.
local function places(id, r)
  local open = r[CLAIM] == 2
  if r[CLAIM] == 1 then
    for i = 0, 3 do
      open = open or r[USED + i] < r[CLAIMED + i]
    end
  end
  local own, due
  if open then
    due = r[CLAIMED_AT] + CLAIM_OPEN
  elseif r[CHARGED] == 1 then
    due = r[EXPIRES_AT]
  else
    own = r[EXPIRES_AT]
  end
  local member = sub(id, 1, 6) .. (own and moment(own) or NEVER) .. id .. ',' .. r[WORKSPACE]
  for i = 1, #r[HOLDERS], 2 do
    member = member .. ',' .. r[HOLDERS][i]
  end
  return member, due and ('~' .. moment(due) .. id), own
end

local function move(member, present)
  if member then
    moves[member] = present
  end
end

-- The groups that a hold holds on, in their order; false: of another generation, in which it counts nothing.
local function holders(r)
  local fields, found = {}, {}
  for i = 1, #r[HOLDERS] / 2 do
    fields[i] = {}
  end
  for i = 1, #r[COUNTERS], 5 do
    local own = fields[r[COUNTERS][i]]
    own[#own + 1] = r[COUNTERS][i + 1]
  end
  for i = 1, #fields do
    local g = fetch(group(r[WORKSPACE], r[HOLDERS][2 * i - 1]), fields[i])
    found[i] = g.n == r[HOLDERS][2 * i] and g
  end
  return found
end

-- Whether a live hold lost its place in some group: it counts there no more, so nobody may rely on it.
local function is_lost(r)
  for _, g in ipairs(holders(r)) do
    if not g then
      return true
    end
  end
  return false
end

-- Frees amounts on the counters of a hold; of sticky or other ones only, if `sticky` is given.
local function free(r, amounts, sticky)
  local found = holders(r)
  for i = 1, #r[COUNTERS], 5 do
    local g, field, amount = found[r[COUNTERS][i]], r[COUNTERS][i + 1], amounts[r[COUNTERS][i + 2]]
    if g and g.cells[field] and amount > 0 and (sticky == nil or is_sticky(field) == sticky) then
      local counter = cell(g, field)
      counter[1] = plus(counter[1], -amount)
    end
  end
end

local function remaining(r)
  local left = {}
  for i = 0, 3 do
    left[i + 1] = math.max(r[TAKEN + i] - r[USED + i], 0)
  end
  return left
end

-- Ends a live hold: what remains of it is free.
local function finish(id, r, ended, at)
  local member, due = places(id, r)
  move(member, false)
  move(due, false)
  if ended == RELEASED or (ended == EXPIRED and r[CHARGED] == 0) then
    free(r, remaining(r), false)
  else
    free(r, remaining(r))
  end
  if ended == EXPIRED then
    r[END], r[ENDED_AT] = ended, at
    put(id, r)
  else
    put(id, {ended, at, r[WORKSPACE], r[FINGERPRINT]})
  end
end

-- Changes a live hold, moves it in the index, and frees what no longer remains of it.
local function change(id, r, how)
  local member, due = places(id, r)
  local before = remaining(r)
  how(r)
  local new_member, new_due = places(id, r)
  if member ~= new_member or due ~= new_due then
    move(member, false)
    move(due, false)
    move(new_member, true)
    move(new_due, true)
  end
  local after, freed = remaining(r), {}
  for i = 1, 4 do
    freed[i] = before[i] - after[i]
  end
  free(r, freed)
  put(id, r)
end

-- A reservation as it is now: past its expiry it has ended, and after a day an end is forgotten.
local function refreshed(id)
  local r = record(id)
  if r and r[END] == 0 then
    local _, _, own = places(id, r)
    if own and own <= now then
      finish(id, r, EXPIRED, own)
      r = record(id)
    end
  end
  if r and r[END] ~= 0 and r[ENDED_AT] + DAY <= now then
    put(id, false)
    return nil
  end
  return r
end

-- A member whose reservation is not there: what it held cannot be told any more, so its groups begin anew.
local function forsake(member)
  move(member, false)
  local part = 0
  local workspace
  for name in string.gmatch(sub(member, 55), ',([^,]*)') do
    part = part + 1
    if part == 1 then
      workspace = name
    else
      group(workspace, name).gone = true
    end
  end
end

-- Ends the holds of a workspace that have expired. True: there may be more.
local function expire(slot)
  local found = call('ZRANGEBYLEX', index, '[' .. slot, '(' .. slot .. moment(now + 1), 'LIMIT', 0, EXPIRED_MAX)
  for i = 1, #found do
    local id = sub(found[i], 23, 54)
    local r = record(id)
    if not r then
      forsake(found[i])
    elseif r[END] ~= 0 or places(id, r) ~= found[i] then
      move(found[i], false)
    else
      finish(id, r, EXPIRED, r[EXPIRES_AT])
    end
  end
  return #found == EXPIRED_MAX
end

-- Follows a reservation to where the ledger has it: an end, or 0 and what is used.
local function progress(workspace, id, ended, used)
  local r = refreshed(id)
  if not r then
    if ended ~= 0 then
      put(id, {ended, now, workspace, UNKNOWN})
    end
  elseif r[WORKSPACE] ~= workspace then
    return
  elseif r[END] == 0 and ended ~= 0 then
    finish(id, r, ended, now)
  elseif r[END] == 0 then
    change(id, r, function()
      for i = 0, 3 do
        r[USED + i] = math.max(r[USED + i], used[i + 1])
      end
    end)
    -- With its claim ended it may have expired long ago.
    refreshed(id)
  elseif r[END] == EXPIRED and ended == SETTLED then
    -- It is spent now, so no rate keeps it a second time.
    if r[COUNTERS] and r[CHARGED] == 0 then
      free(r, remaining(r), true)
    end
    put(id, {ended, now, r[WORKSPACE], r[FINGERPRINT]})
  end
end

-- Whether a counter may be read: a row of it is here, or none can have been missed. `start` is -1 where it is never zero by itself.
local function is_known(g, field, start, since)
  local found = g.cells[field]
  return (found and found[2] ~= nil) or (start >= 0 and start >= g.b and start >= since)
end

local function is_live(g)
  return g.e == epoch() and g.b ~= nil
end

-- Reads counters, given as holder, field, unit, start and whether dropped. Returns their groups, their balances, and the columns of groups
-- that must be rebuilt first.
local function read(workspace, columns, counters, since)
  local found, fields, balances, unready, named = {}, {}, {}, {}, {}
  for i = 1, #columns do
    found[i], fields[i] = group(workspace, columns[i]), {}
  end
  for i = 1, #counters, 5 do
    local own = fields[counters[i]]
    own[#own + 1] = counters[i + 1]
  end
  for i = 1, #columns do
    fetch(found[i], fields[i])
  end
  for i = 1, #counters, 5 do
    local at, field = counters[i], counters[i + 1]
    local g = found[at]
    if is_live(g) and not g.gone and counters[i + 4] == 0 and is_known(g, field, counters[i + 3], since) then
      local balance = g.cells[field] or {0}
      balances[#balances + 1] = balance[2] or 0
      balances[#balances + 1] = balance[1]
    elseif not named[at] then
      named[at] = true
      unready[#unready + 1] = columns[at]
    end
  end
  return found, balances, unready
end

local function in_parts(command, key, list)
  for from = 1, #list, 1000 do
    call(command, key, unpack(list, from, math.min(from + 999, #list)))
  end
end

-- Counters whose period ended an hour ago are looked for when a new one comes, not more often than each ten minutes.
local function drop_ended(g)
  for _, name in ipairs(call('HKEYS', g.key)) do
    local period_end = string.match(name, '^%u%l%-?%d+,(%-?%d+),')
    if period_end and tonumber(period_end) + HOUR <= now and not g.changed[name] then
      g.drop[#g.drop + 1] = name
    end
  end
  write(g, 'c', now + HOUR / 6)
end

local function flush_group(g)
  if g.grew and (tonumber(g.c) or 0) <= now then
    drop_ended(g)
  end
  -- Longer than any hold can live, and set again not more often than each hour.
  local renew = clock - (tonumber(g.u) or 0) > HOUR
  if renew then
    write(g, 'u', clock)
  end
  local list = g.meta
  for field in pairs(g.changed) do
    local counter = g.cells[field]
    list[#list + 1] = field
    list[#list + 1] = counter[2] ~= nil and pack(counter[1], counter[2], counter[3]) or pack(counter[1])
  end
  for i = 1, #list do
    if type(list[i]) == 'number' then
      list[i] = format('%.0f', list[i])
    end
  end
  in_parts('HSET', g.key, list)
  in_parts('HDEL', g.key, g.drop)
  if renew then
    call('PEXPIRE', g.key, (HOLD_MAX + DAY) / 1000)
  end
end

-- Writes what the script changed.
local function flush()
  local come, gone = {}, {}
  for member, present in pairs(moves) do
    if present then
      come[#come + 1] = 0
      come[#come + 1] = member
    else
      gone[#gone + 1] = member
    end
  end
  for key, g in pairs(groups) do
    if g.gone then
      call('DEL', key)
    elseif g.dirty then
      flush_group(g)
    end
  end
  for _, known in pairs(records) do
    if known.dirty and not known.r then
      call('DEL', known.key)
    elseif known.dirty then
      -- A live one longer than it can stay open; an ended one for a day and an hour, since days are counted on the callers' clocks.
      local days = known.r[END] == 0 and 15 * DAY or DAY + HOUR
      call('SET', known.key, pack(known.r), 'PX', format('%.0f', days / 1000))
    end
  end
  in_parts('ZREM', index, gone)
  in_parts('ZADD', index, come)
  groups, records, moves = {}, {}, {}
end
