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

-- The longest answer that a cap pays for, and its amounts. Whole numerators are below EXACT, so each product that matters is exact, and
-- fmod always is.
local function capped(rung, balances)
  local limits, cap, output = rung[7], rung[8], rung[5]
  -- Where the line of a unit begins in a cap; requests have none.
  local lines = {2, 6, false, 10}
  for i = 1, #limits, 3 do
    local at, ceiling = math.abs(limits[i]), limits[i + 2]
    local more = limits[i] < 0 and granted[at] or 0
    local unit, left = counters[5 * at - 2], ceiling and room(ceiling, balances[2 * at - 1], balances[2 * at]) + more
    local line = lines[unit]
    if left and line then
      local first, per_output, denominator = cap[line], cap[line + 1], cap[line + 2]
      local whole = first + per_output * rung[5]
      local rest = math.fmod(whole, denominator)
      if left < (whole - rest) / denominator + (rest > 0 and 1 or 0) then
        local numerator = left >= 0 and left * denominator - first or -1
        if numerator < 0 then
          return nil
        end
        output = math.min(output, (numerator - math.fmod(numerator, per_output)) / per_output)
      end
    elseif left and rung[unit] > left then
      return nil
    end
  end
  if output < cap[1] then
    return nil
  end
  local amounts = {0, 0, rung[3], 0}
  for unit = 1, 4 do
    local line = lines[unit]
    if line then
      local numerator, denominator = cap[line] + cap[line + 1] * output, cap[line + 2]
      local rest = math.fmod(numerator, denominator)
      local whole = (numerator - rest) / denominator
      local is_odd = math.fmod(whole, 2) == 1
      if rest > 0 and (cap[line + 3] == 1 or 2 * rest > denominator or (2 * rest == denominator and is_odd)) then
        whole = whole + 1
      end
      amounts[unit] = whole
    end
  end
  return output, amounts
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

if record(id) then
  local r = ends().refreshed(id)
  if r and (r[WORKSPACE] ~= workspace or (r[FINGERPRINT] ~= q[5] and r[FINGERPRINT] ~= UNKNOWN)) then
    flush()
    return {'mismatch', clock}
  elseif r and r[END] ~= 0 then
    flush()
    return {'ended', clock, r[END]}
  elseif r and fetch(workspace, '*', {}).a ~= epoch then
    flush()
    return {'unready', clock, {'*'}}
  elseif r and not ends().is_lost(r) then
    flush()
    if r[NONCE] == q[9] then
      -- This very call, sent again by a connection that lost its answer.
      return {'held', clock, r[RUNG], r[OUTPUT], {r[TAKEN], r[TAKEN + 1], r[TAKEN + 2], r[TAKEN + 3]}, r[BEFORE], r[GRANTED]}
    end
    return {'replayed', clock, r}
  elseif r then
    -- Its hold died with a lost copy; the same request may hold again.
    ends().finish(id, r, EXPIRED, now)
  end
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
  end
end
if #unready > 0 then
  flush()
  return {'unready', clock, unready}
end
local open = call('ZLEXCOUNT', index, '[' .. slot, '(' .. slot .. '~')
if open == 0 then
  -- Something held without anybody who holds it: the index was lost.
  for i = 1, #counters, 5 do
    local field, g = counters[i + 1], found[counters[i]]
    local counter = g.cells[field]
    if counter and counter[1] ~= 0 and not g.gone and not ends().is_sticky(field) then
      g.gone = true
      unready[#unready + 1] = columns[counters[i]]
    end
  end
  if #unready > 0 then
    flush()
    return {'unready', clock, unready}
  end
end
local W = fetch(workspace, '*', {})
if W.a ~= epoch then
  if open > 0 then
    flush()
    return {'unready', clock, {'*'}}
  end
  write(W, 'a', epoch)
end
if open >= q[8] then
  flush()
  return {'open', clock, balances, told}
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
      number - 1, output, amounts[1], amounts[2], amounts[3], amounts[4], rung[6], generations, balances,
    }
    hold[GRANTED] = told
    note(workspace, uses)
    write(W, 'o', open + 1)
    records[id] = {key = KEYS[2], r = hold, dirty = true}
    local member, due = places(id, hold)
    moves[member] = true
    if due then
      moves[due] = true
    end
    flush()
    return {'held', clock, number - 1, output, {amounts[1], amounts[2], amounts[3], amounts[4]}, balances, told}
  end
end
flush()
return {'short', clock, balances, told}
