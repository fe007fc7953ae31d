#!lua
-- Nearly every hold: nothing has expired, nobody knows the id, all counters are there and exact, and the first rung that fits needs no cap.
-- It decides what hold_v1.lua decides, sooner, because it makes no function and reads nothing twice. Anything out of the
-- ordinary answers `else` before the first write, and hold_v1.lua is asked with the same keys and arguments.
--
-- KEYS, ARGV and what is kept: see hold_v1.lua and store_v1.lua
-- Answers    held: rung, output, amounts, balances before; short: balances; else
local call, pack, format, sub = redis.call, cmsgpack.pack, string.format, string.sub
local q = cmsgpack.unpack(ARGV[1])
local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
if clock > q[2] then
  return {'late', clock}
end
local now, workspace, id, since, columns, counters = q[1], q[3], q[4], q[7], q[11], q[12]
local ELSE, EXACT, HOUR = {'else', clock}, 4503599627370496, 3600000000
local index, slot = KEYS[1], sub(id, 1, 6)
if q[6] ~= 0 or call('EXISTS', KEYS[2]) ~= 0 then
  return ELSE
end
local expired = call('ZRANGEBYLEX', index, '[' .. slot, '(' .. slot .. format('%016.0f', now + 1), 'LIMIT', 0, 1)
local open = call('ZLEXCOUNT', index, '[' .. slot, '(' .. slot .. '~')
if #expired > 0 or open >= q[8] then
  return ELSE
end
local info = call('INFO', 'replication')
local _, info_place = string.find(info, 'master_replid:', 1, true)
local epoch = sub(info, info_place + 1, info_place + 40)

-- Group by group: its epoch, generation, when it was built and renewed, the workspace's comparison with the ledger, and its counters.
local names, places, generations, compared = {}, {}, {}, false
for i = 1, #columns do
  names[i], places[i] = {'e', 'n', 'b', 'u', 'a'}, {}
end
for i = 1, #counters, 5 do
  local own, at = names[counters[i]], places[counters[i]]
  own[#own + 1], at[#at + 1] = counters[i + 1], (i + 4) / 5
end
local held, spent, version = {}, {}, {}
for i = 1, #columns do
  local values = call('HMGET', KEYS[3 + i], unpack(names[i]))
  local built = tonumber(values[3])
  if values[1] ~= epoch or not built or clock - (tonumber(values[4]) or 0) > HOUR then
    return ELSE
  end
  generations[2 * i - 1], generations[2 * i] = columns[i], values[2]
  if columns[i] == '*' then
    compared = values[5]
  end
  for j, place in ipairs(places[i]) do
    local value, start = values[5 + j], counters[5 * place - 1]
    if not value or counters[5 * place] ~= 0 then
      return ELSE
    end
    local h, s, v = cmsgpack.unpack(value)
    if s == nil and not (start >= 0 and start >= built and start >= since) then
      return ELSE
    end
    held[place], spent[place], version[place] = h, s or 0, v
    if type(h) ~= 'number' or type(spent[place]) ~= 'number' or (open == 0 and h ~= 0) then
      return ELSE
    end
  end
end
if (compared or call('HGET', KEYS[3], 'a')) ~= epoch then
  return ELSE
end
local balances = {}
for place = 1, #held do
  balances[2 * place - 1], balances[2 * place] = spent[place], held[place]
end

for number, rung in ipairs(q[13]) do
  local limits, fits = rung[7], true
  for i = 1, #limits, 3 do
    local place, below, ceiling = limits[i], limits[i + 1], limits[i + 2]
    local taken = spent[place] + held[place]
    if type(below) == 'string' or type(ceiling) == 'string' then
      return ELSE
    elseif below and below - taken <= 0 then
      fits = false
      break
    elseif ceiling and rung[counters[5 * place - 2]] > ceiling - taken then
      if rung[8] then
        return ELSE
      end
      fits = false
    end
  end
  if fits then
    local held_on, own = {}, {}
    for place = 1, #held do
      local at, field, unit = counters[5 * place - 4], counters[5 * place - 3], counters[5 * place - 2]
      local sum = held[place] + rung[unit]
      if sum >= EXACT then
        return ELSE
      end
      local i = 5 * place
      held_on[i - 4], held_on[i - 3], held_on[i - 2], held_on[i - 1], held_on[i] = at, field, unit, spent[place], held[place]
      local list = own[at]
      if not list then
        list = {}
        own[at] = list
      end
      list[#list + 1] = field
      list[#list + 1] = version[place] and pack(sum, spent[place], version[place]) or pack(sum)
    end
    for at, list in pairs(own) do
      call('HSET', KEYS[3 + at], unpack(list))
    end
    local hold = {
      0, 0, workspace, q[5], 0, now, rung[6], 0, now, 0, 0, 0, 0, 0, 0, 0, 0,
      number - 1, rung[5], rung[1], rung[2], rung[3], rung[4], q[10], q[9], generations, held_on,
    }
    call('SET', KEYS[2], pack(hold), 'PX', '1296000000')
    local member = slot .. format('%016.0f', rung[6]) .. id .. ',' .. workspace
    for i = 1, #columns do
      member = member .. ',' .. columns[i]
    end
    call('ZADD', index, 0, member)
    return {'held', clock, number - 1, rung[5], {rung[1], rung[2], rung[3], rung[4]}, balances}
  end
end
return {'short', clock, balances}
