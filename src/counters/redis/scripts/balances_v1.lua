#!lua
-- Reads counters.
--
-- KEYS[2]  the workspace's own group; after it those of its users that are asked for
-- ARGV[1]  3 workspace, 4 slot, 5 named since, 6 columns, 7 counters as read() takes them,
--          8 uses of purses
-- Answers  known: balances, places and what is granted there; unready: columns; again
local more = expire(q[4])
flush()
if more then
  return {'again', clock}
end
local _, balances, unready = read(q[3], q[6], q[7], q[5])
local told = #q[8] > 0 and raise(q[3], q[8]) or nil
if #q[8] > 0 and not told then
  ask_for_own(unready)
end
if #unready > 0 then
  return {'unready', clock, unready}
end
for i = 1, told and #told or 0 do
  balances[#balances + 1] = told[i]
end
return {'known', clock, balances}
