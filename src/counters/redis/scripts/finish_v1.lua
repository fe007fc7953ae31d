#!lua
-- Ends a rebuild with what was read from the ledger after its begin: first the ends of adopted reservations, then the rows.
--
-- KEYS[2]  the workspace's own group
-- KEYS[3]  the group
-- ARGV[1]  3 workspace, 4 column, 5 token, 6 rows: field, spent, version, paid, 7 adopted: id, end or 0, amounts used or false,
--          8 purses: field, left, until, version
-- Answers  finished, or refused: the token is not the current one, and nothing changed
local g = fetch(q[3], q[4], {})
if g.t ~= q[5] or g.e ~= epoch then
  return {'refused', clock}
end
for i = 1, #q[7], 3 do
  ends().progress(q[3], q[7][i], q[7][i + 1], q[7][i + 2])
end
local fields = {}
for i = 1, #q[6], 4 do
  fields[#fields + 1] = q[6][i]
end
fetch(q[3], q[4], fields)
for i = 1, #q[6], 4 do
  set(g, q[6][i], q[6][i + 1], q[6][i + 2], q[6][i + 3])
end
for i = 1, #q[8], 4 do
  fill(g, q[8][i], q[8][i + 1], q[8][i + 2], q[8][i + 3])
end
if not g.b then
  write(g, 'b', now)
end
g.dirty, g.drop = true, {'t', 's', 'w'}
local W = fetch(q[3], '*', {})
if W.a ~= epoch then
  write(W, 'a', epoch)
end
flush()
return {'finished', clock}
