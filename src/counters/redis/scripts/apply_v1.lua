#!lua
-- Copies what a commit changed: rows that are newer, and how far a reservation has come, in one step.
--
-- KEYS[2]  the reservation, or the index again where there is none; after it the groups of rows and of what is read
-- ARGV[1]  3 workspace, 4 slot, 5 columns, 6 rows: holder, field, spent, version, paid, 7 id or false, 8 end or 0, 9 amounts used or false,
--          10 what to read: holder, field, dropped, 11 purses: field, left, until, version, 12 uses of purses by what is read,
--          13 the only epoch in which this is meant, or false
-- Answers  applied: for each that was read its balance, and what is granted where a purse was used; or false;
--          other: another process has taken its place, and nothing changed
if q[13] and q[13] ~= epoch then
  return {'other', clock}
end
local workspace, columns, rows, wanted = q[3], q[5], q[6], q[10]
local found, fields = {}, {}
for i = 1, #columns do
  fields[i] = {}
end
for i = 1, #rows, 5 do
  local own = fields[rows[i]]
  own[#own + 1] = rows[i + 1]
end
for i = 1, #wanted, 3 do
  local own = fields[wanted[i]]
  own[#own + 1] = wanted[i + 1]
end
for i = 1, #columns do
  found[i] = fetch(workspace, columns[i], fields[i])
end
for i = 1, #rows, 5 do
  -- A group of another epoch is read from the ledger before it is live again, so nothing is missed.
  if found[rows[i]].e == epoch then
    set(found[rows[i]], rows[i + 1], rows[i + 2], rows[i + 3], rows[i + 4])
  end
end
if #q[11] > 0 then
  local W = fetch(workspace, '*', {})
  for i = 1, W.e == epoch and #q[11] or 0, 4 do
    fill(W, q[11][i], q[11][i + 1], q[11][i + 2], q[11][i + 3])
  end
end
if q[7] then
  ends().progress(workspace, q[7], q[8], q[9])
end
local more
if #wanted > 0 then
  more = expire(q[4])
end
local balances = {}
for i = 1, #wanted, 3 do
  local g = found[wanted[i]]
  local counter = g.cells[wanted[i + 1]]
  if g.b and g.e == epoch and wanted[i + 2] == 0 and counter and counter[2] ~= nil then
    balances[#balances + 1] = {counter[2], counter[1]}
  else
    balances[#balances + 1] = false
  end
end
local uses = q[12]
for i = 1, #uses, 5 do
  local balance = balances[uses[i]]
  if balance then
    balance[3] = math.min((left_for(workspace, uses, i) or 0) + paid_of(workspace, uses[i + 3], uses[i + 4]), EXACT)
  end
end
flush()
-- Doubling an apply changes nothing, so it may be sent again to end what else has expired.
return {more and 'again' or 'applied', clock, balances}
