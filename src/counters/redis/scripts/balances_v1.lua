#!lua
-- Reads counters.
--
-- KEYS[2]  the workspace's own group; after it those of its users that are asked for
-- ARGV[1]  3 workspace, 4 slot, 5 named since, 6 columns, 7 counters as read() takes them
-- Answers  known: balances; unready: columns; again
local more = expire(q[4])
flush()
if more then
  return {'again', clock}
end
local _, balances, unready = read(q[3], q[6], q[7], q[5])
if #unready > 0 then
  return {'unready', clock, unready}
end
return {'known', clock, balances}
