#!lua
-- Moves the expiry of a live hold, never earlier, never beyond seven days after it was taken, that of a call never beyond its parent's. No
-- counter changes, so it needs no epoch.
--
-- KEYS[2]  the reservation
-- ARGV[1]  3 id, 4 until
-- Answers  until: the expiry; ended: end; none
local E = ends()
local r = E.refreshed(q[3])
if not r then
  flush()
  return {'none', clock}
end
local ended = r[END]
if ended == 0 and E.is_lost(r) then
  ended = EXPIRED
end
if ended ~= 0 then
  flush()
  return {'ended', clock, ended}
end
local latest = r[HELD_AT] + HOLD_MAX
if r[PARENT] then
  -- One that has run out bounds nothing any more: its call stays as it is.
  E.refreshed(sub(r[PARENT], 1, 32))
  local p = E.parent(r)
  latest = math.min(latest, p and p[EXPIRES_AT] or 0)
end
E.change(q[3], r, function()
  r[EXPIRES_AT] = math.max(r[EXPIRES_AT], math.min(q[4], latest))
end)
flush()
return {'until', clock, r[EXPIRES_AT]}
