#!lua
-- Reads counters, given as holder, field, unit, start and whether dropped. Returns their groups, their balances, and the columns of groups
-- that must be rebuilt first. A counter is known by a row, or when none can have been missed: its period began after its group was built
-- and after all knew the policy that names it. `start` is -1 where it is never zero by itself.
local function read(workspace, columns, counters, since)
  local found, fields, balances, unready, named = {}, {}, {}, {}, nil
  for i = 1, #columns do
    fields[i] = {}
  end
  for i = 1, #counters, 5 do
    local own = fields[counters[i]]
    own[#own + 1] = counters[i + 1]
  end
  for i = 1, #columns do
    found[i] = fetch(workspace, columns[i], fields[i])
  end
  local count = 0
  for i = 1, #counters, 5 do
    local at, start = counters[i], counters[i + 3]
    local g = found[at]
    local counter, built = g.cells[counters[i + 1]], g.b
    local live = built and g.e == epoch and counters[i + 4] == 0
    if live and ((counter and counter[2] ~= nil) or (start >= 0 and start >= built and start >= since)) then
      balances[count + 1] = counter and counter[2] or 0
      balances[count + 2] = counter and counter[1] or 0
      count = count + 2
    else
      named = named or {}
      if not named[at] then
        named[at] = true
        unready[#unready + 1] = columns[at]
      end
    end
  end
  return found, balances, unready
end
