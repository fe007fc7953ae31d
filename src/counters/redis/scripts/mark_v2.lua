#!lua
-- Until when all that the ledger recorded is known to have been copied here: told, or moved on. Each index has such a mark beside it, with
-- the epoch in which it is right; the first rebuild in an epoch makes it, and there is nothing in that epoch that is older.
--
-- KEYS     one index or several; of a cluster one
-- ARGV[1]  3 the epoch in which it was copied, or false: it is only asked; 4 until when
-- Answers  marks: epoch, the earliest mark of it, or false where nothing was built in it; other: another process has taken its place
if q[3] and q[3] ~= epoch then
  return {'other', clock}
end
local earliest = false
for _, key in ipairs(KEYS) do
  local place = sub(key, 1, -2) .. 'm'
  if q[3] then
    call('SET', place, epoch .. format('%.0f', q[4]))
  else
    index = key
    local mark = call('GET', place) or absent(place)
    local at = mark and sub(mark, 1, 40) == epoch and tonumber(sub(mark, 41))
    if at and (not earliest or at < earliest) then
      earliest = at
    end
  end
end
return {'marks', clock, epoch, earliest and format('%.0f', earliest)}
