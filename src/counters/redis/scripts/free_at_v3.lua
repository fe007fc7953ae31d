#!lua
-- Finds when expiring holds leave enough room on a counter, a page of holds in each call.
--
-- KEYS[2]  the counter's group
-- ARGV[1]  3 workspace, 4 slot, 5 column, 6 field, 7 unit, 8 start or -1, 9 ceiling, 10 room, 11 holds in a page,
--          12 the last member of the page before, or false, 13 what was missing after it
-- Answers  at: moment; none; more: last member, its moment, what is still missing; again
local slot, field, unit, after = q[4], q[6], q[7], q[12]
local more = expire(slot)
flush()
if more then
  return {'again', clock}
end
local known, balance = read(q[3], {q[5]}, {1, field, unit, q[8], 0}, 0)
local g = known[1]
if #balance == 0 then
  return {'none', clock}
end
local missing = after and q[13] or q[10] - select(2, wide())(q[9], balance[1], balance[2])
if missing <= 0 then
  return {'at', clock, now}
end
if ends().is_sticky(field) then
  return {'none', clock}
end
-- One more than are looked at tells whether there are more.
local from = after and '(' .. after or '[' .. slot
local page, keys, named = call('ZRANGEBYLEX', index, from, '(' .. slot .. NEVER, 'LIMIT', 0, q[11] + 1), {}, {}
local last = math.min(#page, q[11])
-- What does not hold in this group need not be read: its place in the index names the groups that it holds in.
local whose, column = ',' .. q[3] .. ',', ',' .. q[5] .. ','
for i = 1, last do
  local member = page[i]
  if sub(member, 55, 54 + #whose) == whose and string.find(member .. ',', column, 54 + #whose, true) then
    keys[#keys + 1] = base .. 'r:' .. sub(member, 23, 54)
    named[#named + 1] = member
  end
end
local values = #keys > 0 and call('MGET', unpack(keys)) or {}
for i = 1, #keys do
  local r = values[i] and cmsgpack.unpack(values[i])
  if r and r[END] == 0 and r[WORKSPACE] == q[3] then
    for j = 1, #r[COUNTERS], 3 do
      local holder = r[COUNTERS][j]
      if r[COUNTERS][j + 1] == field and r[HOLDERS][holder] == q[5] and ends().generation(r, holder) == g.n then
        if r[LENT] then
          missing = missing - r[LENT + unit - 1]
        end
        -- What a call holds goes back to its parent while that one lives, and is free when that one expires.
        if not ends().parent(r) then
          missing = missing - ends().remaining(r)[unit]
        end
      end
    end
  end
  if missing <= 0 then
    return {'at', clock, tonumber(sub(named[i], 7, 22))}
  end
end
if #page <= last then
  return {'none', clock}
end
return {'more', clock, page[last], tonumber(sub(page[last], 7, 22)), missing}
