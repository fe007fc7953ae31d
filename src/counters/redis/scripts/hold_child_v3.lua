#!lua
-- Takes a call's need from the hold of its run's parent, or nothing. What it takes moves from one reservation to the other, on the same
-- counters, so none of them changes and none is asked.
--
-- KEYS[2]  the reservation
-- KEYS[3]  its parent, or the reservation again where that cannot be of this workspace
-- KEYS[4]  the workspace's own group
-- ARGV[1]  3 workspace, 4 id, 5 fingerprint, 6 charged, 7 parent or false, 8 when the parent was held, 9 most calls or false, 10 most open,
--          11 nonce of this call, 12 context, 13 rungs: needs (four), output, expiry, cap as shortened() takes it or false
-- Answers  held, replayed: record; mismatch; ended: end; no_parent; parent_ended: end; child, reported: the parent cannot be one; open;
--          exhausted: the parent's record; unready: columns; again: more has expired than one script ends
local workspace, id, parent_id = q[3], q[4], q[7]
local slot = sub(id, 1, 6)
if expire(slot) then
  flush()
  return {'again', clock}
end
local known, told = recall(workspace, id, q[5], q[11])
if known then
  flush()
  return {known, clock, told}
end
local E = ends()
local p = parent_id and E.refreshed(parent_id)
-- Two ends of one call may have moved it in the index; what is open is counted below as it stands there.
flush()
if not p or p[WORKSPACE] ~= workspace then
  return {'no_parent', clock}
elseif p[END] ~= 0 then
  return {'parent_ended', clock, p[END]}
elseif fetch(workspace, '*', {}).a ~= epoch then
  return {'unready', clock, {'*'}}
elseif E.is_lost(p) then
  return {'parent_ended', clock, EXPIRED}
elseif p[HELD_AT] ~= q[8] then
  return {'no_parent', clock}
elseif p[PARENT] then
  return {'child', clock}
elseif not p[LENT] and (p[CLAIM] ~= 0 or p[USED] + p[USED + 1] + p[USED + 2] + p[USED + 3] > 0) then
  return {'reported', clock}
elseif p[EXPIRES_AT] <= now then
  -- One that is charged waits for the ledger, and is over all the same.
  return {'parent_ended', clock, EXPIRED}
end
local open = call('ZLEXCOUNT', index, '[' .. slot, '(' .. slot .. '~')
if open >= q[10] then
  return {'open', clock}
end

-- In the units of its counters a parent is a ceiling, and in tokens and dollars where it holds on none.
local left, rooms = E.remaining(p), {}
for i = 3, #p[COUNTERS], 3 do
  local unit = p[COUNTERS][i]
  rooms[unit] = left[unit]
end
if not next(rooms) then
  rooms = {left[1], left[2]}
end
local number, output, amounts
for place, rung in ipairs(q[9] and (p[CALLS] or 0) >= q[9] and {} or q[13]) do
  local whole = true
  for unit = 1, 4 do
    whole = whole and (not rooms[unit] or rung[unit] <= rooms[unit])
  end
  if whole then
    output, amounts = rung[5], rung
  elseif rung[7] then
    output, amounts = shortened(rung, rung[7], rooms)
  end
  if output then
    number = place
    break
  end
end
if not number then
  return {'exhausted', clock, p}
end

-- A parent is not charged when it expires: its calls are what is used, so it ends by itself. Whoever wants to hear of that is told.
E.change(parent_id, p, function()
  p[CHARGED], p[PARENT] = p[CHARGED] - p[CHARGED] % 2, false
end)
for i = 0, 3 do
  p[LENT + i] = (p[LENT + i] or 0) + amounts[i + 1]
end
p[CALLS], p[CHILDREN] = (p[CALLS] or 0) + 1, (p[CHILDREN] or 0) + 1
local hold = {
  0, 0, workspace, q[5], q[6], now, 0, now, 0, 0, 0, 0, 0, 0, 0, 0, q[12], q[11], p[HOLDERS], p[COUNTERS],
  number - 1, output, amounts[1], amounts[2], amounts[3], amounts[4], math.min(q[13][number][6], p[EXPIRES_AT]), p[GENERATIONS], p[BEFORE],
  parent_id .. p[NONCE],
}
local W = fetch(workspace, '*', {})
W.open, W.dirty = open + 1, true
records[id] = {key = KEYS[2], r = hold, dirty = true}
local member, due = places(id, hold)
moves[member] = true
if due then
  moves[due] = true
end
flush()
return {'held', clock, hold}
