#!lua
-- Names reservations that only the ledger can end and that have waited long enough, and those that ended by themselves and are to be told.
--
-- KEYS     one index or several; of a cluster one
-- ARGV[1]  3 how many at most, 4 how many members of each index to draw by chance, so that what expired in idle workspaces is given back
-- Answers  due: since when, id, record, ...
local E = ends()

local function sweep(key)
  for _, member in ipairs(q[4] > 0 and call('ZRANDMEMBER', key, q[4]) or {}) do
    if sub(member, 1, 1) ~= '~' and tonumber(sub(member, 7, 22)) <= now then
      local id = sub(member, 23, 54)
      if not record(id) then
        E.forsake(member)
      else
        E.refreshed(id)
      end
    end
  end
end

local due = {}
for _, key in ipairs(KEYS) do
  index, base = key, sub(key, 1, -2)
  local found = call('ZRANGEBYLEX', key, '[~', '(~' .. format('%016.0f', now + 1), 'LIMIT', 0, q[3])
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
  sweep(key)
  flush()
end
return {'due', clock, due}
