#!lua
-- Names reservations that only the ledger can end and that have waited long enough, and those that ended by themselves and are to be told.
--
-- The indexes are a ring, and so is each of them: whoever asks goes on behind the last member that he was shown, so no number of
-- reservations that cannot be ended keeps the others from being named, and what one call looks at is bounded however many wait.
--
-- KEYS     one index or several; of a cluster one
-- ARGV[1]  3 how many to look at, of all indexes together, 4 how many members of each index to draw by chance, so that what expired in idle
--          workspaces is given back, 5 behind which member of each index to begin, or false
-- Answers  due: since when, id, record, ...; how many indexes were looked through; false, or the last member that was looked at in the next
local E = ends()
local left = q[3]

local function sweep(key)
  for _, member in ipairs(q[4] > 0 and call('ZRANDMEMBER', key, q[4]) or {}) do
    if byte(member) < 126 and tonumber(sub(member, 7, 22)) <= now then
      local id = sub(member, 23, 54)
      if not record(id) then
        E.forsake(member)
      else
        E.refreshed(id)
      end
    end
  end
end

-- What waits in an index: what is behind a member before what is not.
local function waiting(key, behind)
  local future = '~' .. format('%016.0f', now + 1)
  if behind and behind >= future then
    behind = false
  end
  local found = call('ZRANGEBYLEX', key, behind and '(' .. behind or '[~', '(' .. future, 'LIMIT', 0, left)
  if behind and #found < left then
    for _, member in ipairs(call('ZRANGEBYLEX', key, '[~', '[' .. behind, 'LIMIT', 0, left - #found)) do
      found[#found + 1] = member
    end
  end
  return found
end

local due, through, last = {}, 0, false
for place, key in ipairs(KEYS) do
  index, base = key, sub(key, 1, -2)
  local found = waiting(key, q[5][place])
  left = left - #found
  for _, member in ipairs(found) do
    local id = sub(member, 18)
    local r = E.refreshed(id)
    local open, waits
    if r and r[END] == 0 then
      open, waits = places(id, r)
    elseif r then
      waits = E.told_by(id, r)
    end
    if waits == member then
      due[#due + 1] = sub(member, 2, 17)
      due[#due + 1] = id
      due[#due + 1] = r
    else
      E.move(member, false)
      if not r then
        for _, other in ipairs(call('ZRANGEBYLEX', key, '[' .. sub(id, 1, 6) .. NEVER .. id, '(' .. sub(id, 1, 6) .. NEVER .. id .. '~')) do
          E.forsake(other)
        end
      end
    end
  end
  if left <= 0 then
    last = found[#found] or false
    flush()
    break
  end
  sweep(key)
  flush()
  through = place
end
return {'due', clock, due, through, last}
