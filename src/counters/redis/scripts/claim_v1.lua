#!lua
-- Claims a live hold for a report that is about to be committed. Claims only grow. The parent of a run is told, and not claimed: its calls
-- are what is reported.
--
-- KEYS[2]  the reservation
-- ARGV[1]  3 id, 4 claim: 1 up to these amounts, 2 final, 5 amounts
-- Answers  record: the reservation as it is now; none; unready: columns; again
local E = ends()
local r = E.refreshed(q[3])
if r and r[END] == 0 and r[LENT] then
  local more = expire(sub(q[3], 1, 6))
  flush()
  if more then
    return {'again', clock}
  end
  r = E.refreshed(q[3])
end
if not r then
  flush()
  return {'none', clock}
end
if r[END] == 0 then
  if E.is_lost(r) then
    flush()
    r[END], r[ENDED_AT] = EXPIRED, now
    return {'record', clock, r}
  end
  if fetch(r[WORKSPACE], '*', {}).a ~= epoch then
    flush()
    return {'unready', clock, {'*'}}
  end
  if not r[LENT] then
    E.change(q[3], r, function()
      r[CLAIM], r[CLAIMED_AT] = math.max(r[CLAIM], q[4]), now
      for i = 0, 3 do
        r[CLAIMED + i] = math.max(r[CLAIMED + i], q[5][i + 1])
      end
    end)
  end
end
flush()
return {'record', clock, r}
