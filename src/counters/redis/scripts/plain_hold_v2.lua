#!lua
-- Nearly every hold: nothing has expired, nobody knows the id, all counters are there and exact, and the first rung that fits needs no cap.
-- It decides what hold_v1.lua decides, sooner: it makes no function, reads nothing twice, and is given what it writes as bytes wherever
-- the caller can know them, because each byte that becomes a text in Lua costs, and each table more. Anything out of the ordinary answers
-- `else` before the first write, and hold_v1.lua is asked.
--
-- KEYS[1]  the index
-- KEYS[2]  the reservation
-- KEYS[3]  the workspace's own group; after it those of its users that are asked for
-- ARGV[1]  values in MessagePack, one after the other: 1 the moment of the store's clock from which on the caller has given up, 2 now,
--          3 named since, 4 most open, 5, 6 between which members of the index the workspace's stand, 7 now as it stands in them,
--          8 1 if the workspace's own group is held on, otherwise 0, 9 how many groups, 10 counters, 11 rungs, 12 values of groups, 13 purses there are,
--          14 1 if somebody wants to hear of its end by itself, otherwise 0;
--          then the groups, each: how many fields to read, those: six of its own, its counters, and purses after them in the first;
--          then for each counter, in this order: its place in answers, unit, start as read() takes it;
--          then for each purse: place of its counter, limit, the line by which that counter would hold on it, see grants_v1.lua;
--          then the rungs, each: needs (four), how many limits, whether there is a cap, its part of a record, its member of the index;
--          its limits: place, negative where grants raise it, unit, open below, ceiling; false: none
-- ARGV[2]  the record's first part: see store_v3.lua
-- Answers  held: rung, balances before; short: balances; after balances the places and what is granted there; else
local call, pack, sub, find, unpack = redis.call, cmsgpack.pack, string.sub, string.find, unpack
local q = {cmsgpack.unpack(ARGV[1])}
local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
if clock > q[1] then
  return {'late', clock}
end
local EXACT, HOUR, WHERE = 4503599627370496, 3600000000, 15
local index, since, open_max = KEYS[1], q[3], q[4]
-- Members begin with their expiry, so the first one tells whether any has expired, and whether any is open at all.
local first = call('ZRANGEBYLEX', index, q[5], q[6], 'LIMIT', 0, 1)[1]
if first and sub(first, 7, 22) <= q[7] then
  return {'else', clock}
end
local info = call('INFO', 'replication')
local _, info_place = find(info, 'master_replid:', 1, true)
local epoch = sub(info, info_place + 1, info_place + 40)

-- Group by group: its epoch, generation, when it was built and renewed, the workspace's comparison with the ledger, and its counters.
local generations, balances, versions = {}, {}, {}
local of_counters = WHERE + q[12]
local at, counter, most = WHERE, of_counters, nil
local purses, paid, purse_values, purse_at = q[13], nil, nil, nil
for i = 1, q[9] do
  local count = q[at]
  local values = call('HMGET', KEYS[2 + i], unpack(q, at + 1, at + count))
  at = at + count + 1
  if clock - (tonumber(values[4]) or 0) > HOUR then
    return {'else', clock}
  end
  if i == 1 then
    most = tonumber(values[6])
    if values[5] ~= epoch or (purses > 0 and (values[1] ~= epoch or not values[3])) then
      return {'else', clock}
    end
    purse_values, count = values, count - purses
    purse_at = count
  end
  if i > 1 or q[8] == 1 then
    local built = tonumber(values[3])
    if values[1] ~= epoch or not built then
      return {'else', clock}
    end
    generations[#generations + 1] = values[2]
    for j = 7, count do
      local value, place, start = values[j], q[counter], q[counter + 2]
      if not value or (#value ~= 24 and #value ~= 32) then
        return {'else', clock}
      end
      local held, spent, version = struct.unpack('>ddd', value)
      if #value == 32 then
        paid = paid or {}
        paid[place] = struct.unpack('>d', value, 25)
      end
      if held >= EXACT or (held ~= 0 and not first) or (version < 0 and not (start >= 0 and start >= built and start >= since)) then
        return {'else', clock}
      end
      balances[2 * place - 1], balances[2 * place], versions[place] = spent, held, version
      counter = counter + 3
    end
  end
end
-- More may have been open than are now: counted when that would matter.
if not most or most >= open_max then
  most = call('ZLEXCOUNT', index, q[5], q[6])
  if most >= open_max then
    return {'else', clock}
  end
end

local rung, granted = of_counters + 3 * q[10], nil
if purses > 0 then
  granted = {}
  for i = 1, purses do
    local place, value = q[rung], purse_values[purse_at + i]
    if not value then
      return {'else', clock}
    end
    local left, ends_at = struct.unpack('>dd', value)
    if ends_at <= q[2] or (#value > 24 and sub(value, 25) ~= q[rung + 2]) then
      return {'else', clock}
    end
    local sum = left + (paid and paid[place] or 0)
    granted[place] = sum < EXACT and sum or EXACT
    balances[2 * q[10] + 2 * i - 1], balances[2 * q[10] + 2 * i] = place, granted[place]
    rung = rung + 3
  end
end
for number = 0, q[11] - 1 do
  local after, fits = rung + 8 + 4 * q[rung + 4], true
  for i = rung + 8, after - 4, 4 do
    local place, below, ceiling = q[i], q[i + 2], q[i + 3]
    if place < 0 then
      place = -place
      below, ceiling = below and below + granted[place], ceiling and ceiling + granted[place]
    end
    local taken = balances[2 * place - 1] + balances[2 * place]
    if below and below <= taken then
      fits = false
      break
    elseif ceiling and q[rung + q[i + 1] - 1] > ceiling - taken then
      if q[rung + 5] then
        return {'else', clock}
      end
      fits = false
    end
  end
  if fits then
    at, counter = WHERE, of_counters
    local lists = {}
    for i = 1, q[9] do
      local list, filled = {}, 0
      if i == 1 then
        list[1], list[2], filled = 'o', most + 1, 2
      end
      for j = at + 7, at + q[at] - (i == 1 and purses or 0) do
        local place = q[counter]
        local held = balances[2 * place] + q[rung + q[counter + 1] - 1]
        if held >= EXACT then
          return {'else', clock}
        end
        local own_paid = paid and paid[place]
        list[filled + 1] = q[j]
        list[filled + 2] = own_paid and struct.pack('>dddd', held, balances[2 * place - 1], versions[place], own_paid)
          or struct.pack('>ddd', held, balances[2 * place - 1], versions[place])
        counter, filled = counter + 3, filled + 2
      end
      lists[i], at = list, at + q[at] + 1
    end
    for i = 1, purses do
      -- The first that a counter holds on a purse is noted there.
      local k, value = of_counters + 3 * q[10] + 3 * i - 3, purse_values[purse_at + i]
      local place = q[k]
      local unit
      for j = of_counters, of_counters + 3 * q[10] - 3, 3 do
        if q[j] == place then
          unit = q[j + 1]
        end
      end
      local taken = balances[2 * place - 1] + balances[2 * place] + q[rung + unit - 1]
      local held = balances[2 * place] + q[rung + unit - 1]
      if #value == 24 and held > 0 and taken > q[k + 1] + (paid and paid[place] or 0) then
        local list = lists[1]
        list[#list + 1], list[#list + 2] = q[WHERE + q[WHERE] - purses + i], value .. q[k + 2]
      end
    end
    -- The first write: whoever has this id already is looked at by the other script.
    if not call('SET', KEYS[2], ARGV[2] .. q[rung + 6] .. pack(generations, balances), 'NX', 'PX', '1296000000') then
      return {'else', clock}
    end
    for i = 1, #lists do
      call('HSET', KEYS[2 + i], unpack(lists[i]))
    end
    local member = q[rung + 7]
    if q[14] == 1 then
      call('ZADD', index, 0, member, 0, '~' .. sub(member, 7, 54))
    else
      call('ZADD', index, 0, member)
    end
    return {'held', clock, number, balances}
  end
  rung = after
end
-- Whoever holds already is not short of what it holds.
if call('EXISTS', KEYS[2]) ~= 0 then
  return {'else', clock}
end
return {'short', clock, balances}
