#!lua
-- Finds a reservation.
--
-- KEYS[2]  the reservation
-- ARGV[1]  3 id
-- Answers  record: the reservation; none
local r = ends().refreshed(q[3])
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
