#!lua
-- Forgets the rows of one group, and what grants have left: the ledger was set back, and its rows bear lower versions than those that were
-- copied here. What is held stays. The group has to be rebuilt before it is asked again, and not by a rebuild that runs already: it may have
-- read the ledger before.
--
-- KEYS[2]  the group
-- ARGV[1]  3 workspace, 4 column
-- Answers  forgotten
local fields, drop = {}, {'b', 'm', 't', 's', 'w'}
local always = #drop
for _, name in ipairs(call('HKEYS', KEYS[2])) do
  if period_end(name) then
    fields[#fields + 1] = name
  elseif #name > 1 and byte(name) == 112 then
    drop[#drop + 1] = name
  end
end
if #fields > 0 or #drop > always or call('HEXISTS', KEYS[2], 't') == 1 then
  local g = fetch(q[3], q[4], fields)
  for i = 1, #fields do
    local known = cell(g, fields[i])
    known[2], known[3], known[4] = nil, nil, nil
  end
  g.dirty, g.drop, g.b, g.m, g.look_at = true, drop, nil, nil, nil
  flush()
end
return {'forgotten', clock}
