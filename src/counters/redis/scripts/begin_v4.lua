#!lua
-- Begins the rebuild of one group, or joins one that began a while ago and has not ended: whoever reads the ledger from here on may end it
-- as well as whoever began it, so nobody's reading is in vain, however many join. Each one that joins makes the next wait twice as long.
--
-- KEYS[2]  the workspace's own group
-- KEYS[3]  the group
-- ARGV[1]  3 workspace, 4 slot, 5 column, 6 token if none runs, 7 how long others wait, 8 how much longer for each reservation to adopt,
--          9 how long at most if they join, 10 by how much the clocks of two callers may differ
-- Answers  token: the one that runs, ids of open reservations to compare with the ledger; wait
local W, g = fetch(q[3], '*', {}), fetch(q[3], q[5], {})
local running = g.e == epoch and g.t
local wait
if running and running ~= q[6] then
  local since = now - tonumber(g.s)
  wait = tonumber(g.w)
  -- One that began far in the future of this clock is nobody's any more.
  if since > -q[10] and since < wait then
    return {'wait', clock}
  end
end
local token = running or q[6]
-- The first rebuild in an epoch: nothing that was copied before it matters to what will be live.
local mark = call('GET', base .. 'm') or absent(base .. 'm')
local is_first = not mark or sub(mark, 1, 40) ~= epoch
local adopt = {}
if W.a ~= epoch then
  for _, member in ipairs(call('ZRANGEBYLEX', index, '[' .. q[4], '(' .. q[4] .. '~')) do
    adopt[#adopt + 1] = sub(member, 23, 54)
  end
  if #adopt == 0 then
    write(W, 'a', epoch)
  end
end
if not g.n then
  -- Nothing is known here: a new generation, in which nothing is held yet.
  write(g, 'n', q[6])
end
if g.e ~= epoch then
  -- Hash and holds are of another process: the same generation, whose rows may be old.
  write(g, 'e', epoch)
  g.drop[1], g.b = 'b', nil
end
write(g, 't', token)
write(g, 's', now)
wait = wait and math.min(2 * wait, q[9])
write(g, 'w', math.max(wait or 0, q[7] + q[8] * #adopt))
flush()
if is_first then
  call('SET', base .. 'm', epoch .. format('%.0f', now))
end
return {'token', clock, token, adopt}
