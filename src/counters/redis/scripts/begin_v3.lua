#!lua
-- Begins the rebuild of one group, unless another one began a moment ago.
--
-- KEYS[2]  the workspace's own group
-- KEYS[3]  the group
-- ARGV[1]  3 workspace, 4 slot, 5 column, 6 token, 7 how long others wait, and 8 how much longer for each reservation to adopt
-- Answers  token: ids of open reservations to compare with the ledger; wait
local W, g = fetch(q[3], '*', {}), fetch(q[3], q[5], {})
local running = g.t and g.e == epoch and g.t ~= q[6]
if running and math.abs(now - tonumber(g.s)) < tonumber(g.w) then
  return {'wait', clock}
end
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
write(g, 't', q[6])
write(g, 's', now)
write(g, 'w', q[7] + q[8] * #adopt)
flush()
if is_first then
  call('SET', base .. 'm', epoch .. format('%.0f', now))
end
return {'token', clock, adopt}
