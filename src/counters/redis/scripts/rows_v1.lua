#!lua
-- Copies a row if it is newer than the one that is here.
local function set(g, field, spent, version, paid)
  local known = g.cells[field]
  if not known or not known[3] or known[3] < version then
    known = cell(g, field)
    known[2], known[3], known[4] = spent, version, paid
  end
end
