#!lua
-- Takes the first rung that fits all counters, or nothing, and writes the reservation down.
--
-- KEYS[2]  the reservation
-- KEYS[3]  the workspace's own group; after it those of its users that are asked for
-- ARGV[1]  3 workspace, 4 id, 5 fingerprint, 6 charged, 7 named since, 8 most open, 9 nonce of this call, 10 context, 11 columns,
--          12 counters as read() takes them, 13 rungs: needs (four), output, expiry, limits (counter, open below, ceiling; false: none),
--          the counter of a limit that grants raise is negative; cap (least; then for tokens, usd and credits base, per output, denominator, up) or false
--          14 uses of purses
-- Answers  held: rung, output, amounts, balances before; replayed: record; mismatch; ended: end; short, open: balances; after balances
--          the places and what is granted there;
--          unready: columns; again: more has expired than one script ends
local workspace, id, columns, counters = q[3], q[4], q[11], q[12]
local slot = sub(id, 1, 6)

-- What grants add to the limits of a counter, by its place.
local granted, uses, told = {}, q[14], nil

local function room(limit, spent, held)
  if type(limit) == 'number' and type(spent) == 'number' and type(held) == 'number' then
    return limit - spent - held
  end
  local _, wide_room = wide()
  return wide_room(limit, spent, held)
end

-- The same where a shorter answer is acceptable.
local function capped(rung, balances)
  local limits, rooms = rung[7], {}
  for i = 1, #limits, 3 do
    local at, ceiling = math.abs(limits[i]), limits[i + 2]
    local more = limits[i] < 0 and granted[at] or 0
    local unit, left = counters[5 * at - 2], ceiling and room(ceiling, balances[2 * at - 1], balances[2 * at]) + more
    if left and (not rooms[unit] or left < rooms[unit]) then
      rooms[unit] = left
    end
  end
  return shortened(rung, rung[8], rooms)
end

-- The answer's length and amounts, if a rung fits.
local function fit(rung, balances)
  local limits, whole = rung[7], true
  for i = 1, #limits, 3 do
    local at, below, ceiling = math.abs(limits[i]), limits[i + 1], limits[i + 2]
    local more = limits[i] < 0 and granted[at] or 0
    local spent, held = balances[2 * at - 1], balances[2 * at]
    if below and room(below, spent, held) + more <= 0 then
      return nil
    end
    whole = whole and (not ceiling or rung[counters[5 * at - 2]] <= room(ceiling, spent, held) + more)
  end
  if whole then
    return rung[5], rung
  elseif rung[8] then
    return capped(rung, balances)
  end
  return nil
end

if expire(slot) then
  flush()
  return {'again', clock}
end

local known, r = recall(workspace, id, q[5], q[9])
if known == 'held' then
  flush()
  return {'held', clock, r[RUNG], r[OUTPUT], {r[TAKEN], r[TAKEN + 1], r[TAKEN + 2], r[TAKEN + 3]}, r[BEFORE]}
elseif known then
  flush()
  return {known, clock, r}
end
if next(moves) then
  -- What is open is counted below, so it must stand in the index as it is.
  flush()
end

local found, balances, unready = read(workspace, columns, counters, q[7])
if #uses > 0 then
  told = raise(workspace, uses)
  if not told then
    ask_for_own(unready)
  end
  for i = 1, told and #told or 0, 2 do
    granted[told[i]] = told[i + 1]
    balances[#balances + 1], balances[#balances + 2] = told[i], told[i + 1]
  end
end
if #unready > 0 then
  flush()
  return {'unready', clock, unready}
end
local open = call('ZLEXCOUNT', index, '[' .. slot, '(' .. slot .. '~')
local guard = call('ZRANGEBYLEX', index, '[\127', '+', 'LIMIT', 0, 1)[1]
local W = fetch(workspace, '*', {})
-- Something held without anybody who holds it, or a guard that is known no more: the index was lost.
local is_lost = W.guard and W.guard ~= guard
for i = 1, #counters, 5 do
  local field, g = counters[i + 1], found[counters[i]]
  local counter = g.cells[field]
  local holds_alone = open == 0 and counter and counter[1] ~= 0 and not ends().is_sticky(field)
  if (is_lost or holds_alone or (g.guard and g.guard ~= guard)) and not g.gone then
    g.gone = true
    unready[#unready + 1] = columns[counters[i]]
  end
end
if is_lost then
  W.look_at, W.guard, W.dirty = nil, nil, true
end
if #unready > 0 then
  flush()
  return {'unready', clock, unready}
end
if not guard then
  guard = '\127' .. sub(q[9], 1, 3)
  moves[guard] = true
end
if W.a ~= epoch then
  if open > 0 then
    flush()
    return {'unready', clock, {'*'}}
  end
  write(W, 'a', epoch)
end
-- Next time a plain hold may do, until the first of what is open ends.
local function make_brief(g, look_at)
  g.look_at, g.open, g.guard, g.dirty = look_at, open, guard, true
end
for i = 1, #columns do
  make_brief(found[i], tonumber(NEVER))
end
local first = call('ZRANGEBYLEX', index, '[' .. slot, '(' .. slot .. '~', 'LIMIT', 0, 1)[1]
make_brief(W, tonumber(first and sub(first, 7, 22) or NEVER))
if open >= q[8] then
  flush()
  return {'open', clock, balances}
end

for number, rung in ipairs(q[13]) do
  local output, amounts = fit(rung, balances)
  if output then
    local generations, held_on = {}, {}
    for i = 1, #columns do
      generations[i] = found[i].n
    end
    for i = 1, #counters, 5 do
      local at, field, unit = counters[i], counters[i + 1], counters[i + 2]
      local counter = cell(found[at], field)
      counter[1] = plus(counter[1], amounts[unit])
      held_on[#held_on + 1], held_on[#held_on + 2], held_on[#held_on + 3] = at, field, unit
    end
    local hold = {
      0, 0, workspace, q[5], q[6], now, 0, now, 0, 0, 0, 0, 0, 0, 0, 0, q[10], q[9], columns, held_on,
      number - 1, output, amounts[1], amounts[2], amounts[3], amounts[4], rung[6], table.concat(generations), balances,
    }
    note(workspace, uses)
    W.open = open + 1
    records[id] = {key = KEYS[2], r = hold, dirty = true}
    local member, due = places(id, hold)
    moves[member] = true
    if due then
      moves[due] = true
    end
    flush()
    return {'held', clock, number - 1, output, {amounts[1], amounts[2], amounts[3], amounts[4]}, balances}
  end
end
flush()
return {'short', clock, balances}
