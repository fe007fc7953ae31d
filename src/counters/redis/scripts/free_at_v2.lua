#!lua
-- Finds when expiring holds leave enough room on a counter, a page of holds in each call.
--
-- KEYS[2]  the counter's group
-- ARGV[1]  3 workspace, 4 slot, 5 column, 6 field, 7 unit, 8 start or -1, 9 ceiling, 10 room, 11 holds in a page,
--          12 the last member of the page before, or false, 13 what was missing after it
-- Answers  at: moment; none; more: last member, what is still missing; again
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
local from = after and '(' .. after or '[' .. slot
local page = call('ZRANGEBYLEX', index, from, '(' .. slot .. NEVER, 'LIMIT', 0, q[11])
if #page == 0 then
  return {'none', clock}
end
local keys = {}
for i = 1, #page do
  keys[i] = base .. 'r:' .. sub(page[i], 23, 54)
end
local values = call('MGET', unpack(keys))
for i = 1, #page do
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
    return {'at', clock, tonumber(sub(page[i], 7, 22))}
  end
end
return {'more', clock, page[#page], missing}
