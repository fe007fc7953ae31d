#!lua
-- What all scripts share: groups of counters, reservations, and the index of what is open. It stands before each of them, and beside it
-- ends_v3.lua, which ends and changes reservations. Making functions is half the cost of a short script, so what is seldom needed is made
-- inside ends() and wide(), when it is.
--
-- A script computes on tables and writes at its end, in flush(): each key is read before the first write, so one that fails because its
-- slot is just moving to another node has changed nothing.
--
-- KEYS[1]  <prefix>{tag}i: a sorted set, all scores 0, of two kinds of members.
--            slot(6) time(16) id(32) ',' workspace (',' column)*  each open reservation; its own expiry, or 9999999999999999
--            '~' time(16) id(32)                                  each one that waits for the ledger, by when it is asked, be it only to
--                                                                 tell that it ended by itself: then beside the first, and after it
--            DEL and three bytes by chance                        the guard: briefs name it, so where it is not there the index was lost
--          Beside it, with the same tag and so in the same slot of a cluster:
--          <prefix>{tag}g:workspace,column   a hash: one group of counters
--            e  epoch in which it is right          n  generation: which holds count in it
--            b  when it was built; absent: not live t  token of the rebuild that runs     s, w  since when, and how long others wait
--            a  epoch in which the workspace's open reservations were last compared with the ledger (only in its group '*')
--            c  when to look for ended periods      u  when its time to live was set
--            p unit budget  what grants have left, see grants_v2.lua (only in its group '*')
--            m  its brief, see brief(): all of this that a plain hold has to know; hold_v2.lua makes it, and who changes it keeps it right
--            unit kind start ',' end ',' feature   a counter, see cell_of: held, and of its newest row spent, version and paid
--          <prefix>{tag}r:id                 a reservation, see below
--          <prefix>{tag}o:...                for a minute: a call of plain holds handed some over, so those sent with it wait for them
--          <prefix>{tag}m                    an epoch and until when all that was recorded is known to be copied here in it: see mark_v2.lua
-- ARGV[1]  a MessagePack array: now, and the moment of the store's clock from which on the caller has given up, in microseconds; then what
--          the script says.
-- Answers  {word, the store's clock, ...}
local call, pack, sub, byte, format, unpack = redis.call, cmsgpack.pack, string.sub, string.byte, string.format, unpack
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
local NEVER, UNKNOWN = '9999999999999999', string.rep('\0', 16)
-- How many expired holds one script ends; the caller asks again while there are more.
local EXPIRED_MAX = 25

-- Of each script that has one, epoch_v2.lua says it: the process that answers.
local epoch

-- A reservation is an array; of one that was settled or released only the first four places are kept.
local END, ENDED_AT, WORKSPACE, FINGERPRINT, CHARGED, HELD_AT = 1, 2, 3, 4, 5, 6
-- CHARGED is 1 where it is recorded as used when it runs out, 2 where somebody wants to hear that it ran out by itself, 3 where both.
-- CLAIM is 0, 1 (up to the four amounts from CLAIMED on) or 2 (final). Amounts are tokens, usd, requests, credits.
local CLAIM, CLAIMED_AT, CLAIMED, USED, CONTEXT, NONCE = 7, 8, 9, 13, 17, 18
-- HOLDERS: the column of each group. COUNTERS: place of its holder, field and unit of each counter. Up to here plain_hold_v5.lua is given
-- the bytes of a record by the caller, and from here to EXPIRES_AT those of each rung.
local HOLDERS, COUNTERS = 19, 20
local RUNG, OUTPUT, TAKEN, EXPIRES_AT = 21, 22, 23, 27
-- GENERATIONS: of each holder, GENERATION bytes each. BEFORE: spent and held of each counter, before it was held on, as an answer tells it.
local GENERATION = 20
local GENERATIONS, BEFORE = 28, 29
-- Only of runs. PARENT: of a call, the id and nonce of the hold that it draws from; of a parent false, then what it lends to live calls, how
-- many it ever admitted and how many are live. The USED of a parent is what its calls have used.
local PARENT, LENT, CALLS, CHILDREN = 30, 31, 35, 36
local SETTLED, RELEASED, EXPIRED = 1, 2, 3

local index, base = KEYS[1], sub(KEYS[1], 1, -2)
-- What was read, by key and by id, and members of the index that come (true) or go (false).
local groups, records, moves = {}, {}, {}

-- Whole numbers are doubles while that is exact, and decimal text beyond it: here it is split into thousand-millions and the rest.
local function wide()
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
  local function plus(held, amount)
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
    local high, low = split(limit)
    local spent_high, spent_low = split(spent)
    local held_high, held_low = split(held)
    return (high - spent_high - held_high) * 1e9 + (low - spent_low - held_low)
  end
  return plus, room
end

-- held + amount, never below zero.
local function plus(held, amount)
  if type(held) == 'number' then
    local sum = held + amount
    if sum < EXACT then
      return sum > 0 and sum or 0
    end
  end
  return (wide())(held, amount)
end

-- A counter as it is kept: three doubles, held, spent and version (-1: no row is known), and a fourth where grants paid something; where one
-- of them is beyond EXACT, 'w' and MessagePack. No double that may stand first begins with that letter. Only here and in plain_hold_v5.lua is this known.
local function cell_of(value)
  if byte(value) == 119 then
    return {cmsgpack.unpack(sub(value, 2))}
  end
  local held, spent, version = struct.unpack('>ddd', value)
  if version < 0 then
    return {held}
  elseif #value > 24 then
    return {held, spent, version, (struct.unpack('>d', value, 25))}
  end
  return {held, spent, version}
end

local function text_of(counter)
  local held, spent = counter[1], counter[2]
  if type(held) == 'string' or type(spent) == 'string' then
    return 'w' .. (spent ~= nil and pack(held, spent, counter[3], counter[4] or 0) or pack(held))
  end
  local paid = counter[4] or 0
  if paid ~= 0 then
    return struct.pack('>dddd', held, spent, counter[3], paid)
  end
  return struct.pack('>ddd', held, spent or 0, spent and counter[3] or -1)
end

-- When the period of a counter ends. Its field says so in whole seconds to the base of 36, or in microseconds and a point behind them. Nil:
-- this is no counter's field.
local function period_end(field)
  local text, point = string.match(field, '^%u%l[^,]*,(%-?%w+)(%.?),')
  return text and (point == '.' and tonumber(text) or tonumber(text, 36) * 1000000)
end

-- Of a key that was found empty: while its slot moves to this node of a cluster it may still be on the other one, and a key by itself would
-- be taken for one that is nowhere. Together with the index, which may be here already, it is refused, and the caller tries again.
local function absent(key)
  call('EXISTS', index, key)
  return false
end

-- A group, with what was not read of it before: its own fields, and these counters as {held, spent, version, paid}; false: not there.
local function fetch(workspace, column, fields)
  local key = base .. 'g:' .. workspace .. ',' .. column
  local g, names, own = groups[key], nil, 0
  if not g then
    g = {key = key, cells = {}, changed = {}, meta = {}, drop = {}}
    groups[key] = g
    names, own = {'e', 'n', 'b', 't', 's', 'w', 'a', 'c', 'u', 'm'}, 10
  else
    names = {}
  end
  local cells, count = g.cells, own
  for i = 1, #fields do
    local field = fields[i]
    if cells[field] == nil then
      cells[field] = false
      count = count + 1
      names[count] = field
    end
  end
  for from = 1, count, 1000 do
    local values = call('HMGET', key, unpack(names, from, from + 999 < count and from + 999 or count))
    for i = 1, #values do
      local place, value = from + i - 1, values[i]
      if place <= own then
        g[names[place]] = value or nil
      elseif value then
        cells[names[place]] = cell_of(value)
      end
    end
  end
  if own > 0 then
    g.b, g.column = tonumber(g.b), column
    if not g.n then
      absent(key)
    end
    if g.m then
      g.look_at, g.open = struct.unpack('>dd', g.m, 17)
      g.guard = sub(g.m, 41 + GENERATION)
    end
  end
  return g
end

-- What a plain hold has to know of a group, in one field, because each field that is read costs. 16 bytes of the epoch in which it is right;
-- doubles: when to look closer, be it because a hold may have expired or the time to live is to be set, no fewer holds than are open, and
-- when the group was built, or -1 where it is not live; its generation; the guard of the index. Nothing: each hold has to look closer.
local function brief(g)
  if not g.look_at then
    return nil
  elseif not epoch then
    -- Of a script that asks for none, only the first of these can have changed.
    return g.m and sub(g.m, 1, 16) .. struct.pack('>d', g.look_at) .. sub(g.m, 25)
  end
  local live = g.b and g.e == epoch
  if (g.column == '*' and g.a ~= epoch) or (g.column ~= '*' and not live) then
    return nil
  end
  local look_at = math.min(g.look_at, (tonumber(g.u) or 0) + HOUR)
  return struct.pack('>c16ddd', epoch, look_at, g.open, live and g.b or -1) .. (g.n or string.rep('0', GENERATION)) .. g.guard
end

local function write(g, name, value)
  g[name], g.dirty = value, true
  local meta = g.meta
  meta[#meta + 1] = name
  meta[#meta + 1] = type(value) == 'number' and format('%.0f', value) or value
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

local function record(id)
  local known = records[id]
  if known == nil then
    local key = base .. 'r:' .. id
    local value = call('GET', key) or absent(key)
    known = {key = key, r = value and cmsgpack.unpack(value)}
    records[id] = known
  end
  return known.r or nil
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
  elseif r[CHARGED] % 2 == 1 then
    due = r[EXPIRES_AT]
  else
    own = r[EXPIRES_AT]
    due = r[CHARGED] == 2 and own
  end
  local member = sub(id, 1, 6) .. (own and format('%016.0f', own) or NEVER) .. id .. ',' .. r[WORKSPACE]
  local columns = r[HOLDERS]
  for i = 1, #columns do
    member = member .. ',' .. columns[i]
  end
  return member, due and ('~' .. format('%016.0f', due) .. id), own
end

-- Writes what the script changed.
local function flush()
  local function in_parts(command, key, list)
    for from = 1, #list, 1000 do
      call(command, key, unpack(list, from, math.min(from + 999, #list)))
    end
  end
  local come, gone = {}, {}
  for member, present in pairs(moves) do
    if present then
      come[#come + 1] = '0'
      come[#come + 1] = member
      -- No brief may promise that nothing ends before this one does.
      local workspace = byte(member) < 126 and string.match(member, '^[^,]*,([^,]*)')
      local W = workspace and fetch(workspace, '*', {})
      local at = W and W.look_at and tonumber(sub(member, 7, 22))
      if at and at < W.look_at then
        W.look_at, W.dirty = at, true
      end
    else
      gone[#gone + 1] = member
    end
  end
  for key, g in pairs(groups) do
    if g.gone then
      call('DEL', key)
    elseif g.dirty then
      -- Counters whose period ended an hour ago are looked for when a new one comes, not more often than each ten minutes.
      if g.grew and (tonumber(g.c) or 0) <= now then
        for _, name in ipairs(call('HKEYS', key)) do
          local ended = period_end(name)
          if ended and ended + HOUR <= now and not g.changed[name] then
            g.drop[#g.drop + 1] = name
          end
        end
        write(g, 'c', now + HOUR / 6)
      end
      -- Longer than any hold can live, and set again not more often than each hour.
      local renew = clock - (tonumber(g.u) or 0) > HOUR
      if renew then
        write(g, 'u', clock)
      end
      local list, now_brief = g.meta, brief(g)
      if now_brief ~= g.m then
        if now_brief then
          list[#list + 1] = 'm'
          list[#list + 1] = now_brief
        else
          g.drop[#g.drop + 1] = 'm'
        end
      end
      for field in pairs(g.changed) do
        local counter = g.cells[field]
        list[#list + 1] = field
        list[#list + 1] = text_of(counter)
      end
      in_parts('HSET', key, list)
      in_parts('HDEL', key, g.drop)
      if renew then
        call('PEXPIRE', key, (HOLD_MAX + DAY) / 1000)
      end
    end
  end
  for _, known in pairs(records) do
    if known.dirty and not known.r then
      call('DEL', known.key)
    elseif known.dirty then
      -- A live one longer than it can stay open; an ended one for a day and an hour, since days are counted on the callers' clocks.
      local micros = known.r[END] == 0 and 15 * DAY or DAY + HOUR
      call('SET', known.key, pack(known.r), 'PX', format('%.0f', micros / 1000))
    end
  end
  in_parts('ZREM', index, gone)
  in_parts('ZADD', index, come)
  groups, records, moves = {}, {}, {}
end
