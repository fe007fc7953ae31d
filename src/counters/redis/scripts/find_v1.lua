#!lua
-- Finds a reservation.
--
-- KEYS[2]  the reservation
-- ARGV[1]  3 id
-- Answers  record: the reservation; none; again
local r = ends().refreshed(q[3])
if r and r[END] == 0 and r[LENT] then
  -- A parent tells what it has left, so its calls are brought up to date.
  local more = expire(sub(q[3], 1, 6))
  flush()
  if more then
    return {'again', clock}
  end
  r = ends().refreshed(q[3])
end
if r and r[END] == 0 and ends().is_lost(r) then
  -- Of a copy that is lost: it holds nothing any more.
  flush()
  r[END], r[ENDED_AT] = EXPIRED, now
  return {'record', clock, r}
end
flush()
if r then
  return {'record', clock, r}
end
return {'none', clock}
