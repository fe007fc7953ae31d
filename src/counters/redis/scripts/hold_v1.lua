#!lua
-- Takes the first rung that fits all counters, or nothing, and writes the reservation down.
--
-- KEYS[2]  the reservation
-- KEYS[3]  the workspace's own group; after it those of its users that are asked for
-- ARGV[1]  3 workspace, 4 id, 5 fingerprint, 6 charged, 7 named since, 8 most open, 9 nonce of this call, 10 context, 11 columns,
--          12 counters as read() takes them, 13 rungs: needs (four), output, expiry, limits (counter, open below, ceiling; false: none),
--          cap (least; then for tokens, usd and credits base, per output, denominator, up) or false
-- Answers  held: rung, output, amounts, balances before; replayed: record; mismatch; ended: end; short, open: balances;
--          unready: columns; again: more has expired than one script ends
local workspace, id, columns, counters = q[3], q[4], q[11], q[12]
local slot = sub(id, 1, 6)

local function fits_line(line, at, left, output)
  local base_amount, per_output, denominator = line[at], line[at + 1], line[at + 2]
  -- Whole numerators are below EXACT, so a product that matters is exact, and fmod always is.
  local whole = base_amount + per_output * output
  local rest = math.fmod(whole, denominator)
  if left >= (whole - rest) / denominator + (rest > 0 and 1 or 0) then
    return output
  end
  local numerator = left >= 0 and left * denominator - base_amount or -1
  if numerator < 0 then
    return -1
  end
  return (numerator - math.fmod(numerator, per_output)) / per_output
end

local function amount_at(line, at, output)
  local numerator, denominator = line[at] + line[at + 1] * output, line[at + 2]
  local rest = math.fmod(numerator, denominator)
  local whole = (numerator - rest) / denominator
  local up = rest > 0 and (line[at + 3] == 1 or 2 * rest > denominator or (2 * rest == denominator and math.fmod(whole, 2) == 1))
  return up and whole + 1 or whole
end

-- Where the line of a unit begins in a cap; requests have none.
local LINES = {2, 6, false, 10}

local function fit(rung, balances)
  local limits, cap, rooms, whole = rung[7], rung[8], {}, true
  for i = 1, #limits, 3 do
    local at = limits[i]
    local spent, held = balances[2 * at - 1], balances[2 * at]
    if limits[i + 1] and room(limits[i + 1], spent, held) <= 0 then
      return nil
    end
    if limits[i + 2] then
      rooms[at] = room(limits[i + 2], spent, held)
      whole = whole and rung[counters[5 * at - 2]] <= rooms[at]
    end
  end
  if whole then
    return rung[5], {rung[1], rung[2], rung[3], rung[4]}
  end
  if not cap then
    return nil
  end
  local output = rung[5]
  for i = 1, #limits, 3 do
    local at = limits[i]
    local unit, left = counters[5 * at - 2], limits[i + 2] and room(limits[i + 2], balances[2 * at - 1], balances[2 * at])
    if left and LINES[unit] then
      output = math.min(output, fits_line(cap, LINES[unit], left, rung[5]))
    elseif left and rung[unit] > left then
      return nil
    end
  end
  if output < cap[1] then
    return nil
  end
  return output, {amount_at(cap, 2, output), amount_at(cap, 6, output), rung[3], amount_at(cap, 10, output)}
end

if expire(slot) then
  flush()
  return {'again', clock}
end

local r = refreshed(id)
if r then
  if r[WORKSPACE] ~= workspace or (r[FINGERPRINT] ~= q[5] and r[FINGERPRINT] ~= UNKNOWN) then
    flush()
    return {'mismatch', clock}
  elseif r[END] ~= 0 then
    flush()
    return {'ended', clock, r[END]}
  elseif fetch(group(workspace, '*'), {}).a ~= epoch() then
    flush()
    return {'unready', clock, {'*'}}
  elseif not is_lost(r) then
    flush()
    if r[NONCE] == q[9] then
      -- This very call, sent again by a connection that lost its answer.
      local before = {}
      for i = 1, #r[COUNTERS], 5 do
        before[#before + 1], before[#before + 2] = r[COUNTERS][i + 3], r[COUNTERS][i + 4]
      end
      return {'held', clock, r[RUNG], r[OUTPUT], {r[TAKEN], r[TAKEN + 1], r[TAKEN + 2], r[TAKEN + 3]}, before}
    end
    return {'replayed', clock, r}
  end
  -- Its hold died with a lost copy; the same request may hold again.
  finish(id, r, EXPIRED, now)
end

if next(moves) then
  -- What is open is counted below, so it must stand in the index as it is.
  flush()
end
local found, balances, unready = read(workspace, columns, counters, q[7])
if #unready > 0 then
  flush()
  return {'unready', clock, unready}
end
local open = call('ZLEXCOUNT', index, '[' .. slot, '(' .. slot .. '~')
if open == 0 then
  -- Something held without anybody who holds it: the index was lost.
  for i = 1, #counters, 5 do
    local counter, g = found[counters[i]].cells[counters[i + 1]], found[counters[i]]
    if counter and counter[1] ~= 0 and not is_sticky(counters[i + 1]) then
      g.gone = true
      unready[#unready + 1] = columns[counters[i]]
    end
  end
  if #unready > 0 then
    flush()
    return {'unready', clock, unready}
  end
end
local W = fetch(group(workspace, '*'), {})
if W.a ~= epoch() then
  if open > 0 then
    flush()
    return {'unready', clock, {'*'}}
  end
  write(W, 'a', epoch())
end
if open >= q[8] then
  flush()
  return {'open', clock, balances}
end

for number, rung in ipairs(q[13]) do
  local output, amounts = fit(rung, balances)
  if output then
    local gens, held_on = {}, {}
    for i = 1, #columns do
      gens[2 * i - 1], gens[2 * i] = columns[i], found[i].n
    end
    for i = 1, #counters, 5 do
      local at, field, unit, place = counters[i], counters[i + 1], counters[i + 2], (i - 1) / 5
      local counter = cell(found[at], field)
      counter[1] = plus(counter[1], amounts[unit])
      held_on[i], held_on[i + 1], held_on[i + 2] = at, field, unit
      held_on[i + 3], held_on[i + 4] = balances[2 * place + 1], balances[2 * place + 2]
    end
    local hold = {
      0, 0, workspace, q[5], q[6], now, rung[6], 0, now, 0, 0, 0, 0, 0, 0, 0, 0,
      number - 1, output, amounts[1], amounts[2], amounts[3], amounts[4], q[10], q[9], gens, held_on,
    }
    put(id, hold)
    local member, due = places(id, hold)
    move(member, true)
    move(due, true)
    flush()
    return {'held', clock, number - 1, output, amounts, balances}
  end
end
flush()
return {'short', clock, balances}
