#!lua
-- Nearly every hold: nothing has expired, nobody knows the id, all counters are there and exact, and the first rung that fits needs no cap.
-- It decides what hold_v2.lua decides, sooner, of one request or of several that came together, one after the other. Anything out of the
-- ordinary is answered -2 before the first write (or takes it back), and hold_v2.lua is asked. What costs here: each byte that becomes a text
-- in Lua, since all of it is hashed; each call; each table, and more so one that grows. So it is given what it writes as bytes wherever the
-- caller can know them, and tables begin with room.
--
-- KEYS     of each request: the index; the reservation; the workspace's own group; after it those of its users that are asked for; at the end,
--          where several calls keep one order, what says that one of them handed something over
-- ARGV[1]  values in MessagePack, one after the other: 1 the moment of the store's clock from which on the caller has given up, 2 until when
--          of that clock the epoch is known to be 3; 4 how they wait for each other: 0 not at all, 1 what comes behind one that is handed
--          over is handed over too, 2 so it is in the calls behind this one
-- ARGV     after it of each request two. The first are values: 1 now, 2 named since, 3 most open, 4 1 if the workspace's own group is held
--          on, otherwise 0, 5 how many groups, 6 rungs, 7 purses there are, 8 1 if somebody wants to hear of its end by itself, otherwise 0,
--          9 where the counters begin, 10 where the purses begin, 11 the head of the record's last part, 12 how all cells are unpacked;
--          then the groups, each: how many fields to read, those: 'm', its counters, and purses after them in the first;
--          then for each counter, in this order: its unit from 0 on, start as read() takes it;
--          then for each purse: cell of its counter, its place in answers, limit, the line by which that counter would hold on it, see
--          grants_v2.lua, the unit;
--          then the rungs, each: needs (four), how many limits, whether there is a cap, its part of a record, its member of the index,
--          its expiry; its limits: cell, negative where grants raise it, unit, open below, ceiling; false: none
--          A cell is three doubles, and named by where the first stands: 1, 4, ... in the order of reading.
--          The second is the record's first part: see store_v4.lua
-- Answers  plain: the epoch, where it was looked up; then in one text, since a table of each would cost more than all that is in it, of each
--          request two bytes and balances: the rung that it holds and those before it, -1 and balances if it is short, or -2 alone.
--          Balances are doubles, held, spent and version of each counter in the order of its group; after them the places and what is
--          granted there.
local call, sub, concat, struct_pack, struct_unpack, unpack = redis.call, string.sub, table.concat, struct.pack, struct.unpack, unpack
local deadline, known_until, epoch, turns = cmsgpack.unpack(ARGV[1])
local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
if clock > deadline then
  return {'late', clock}
end
local told = false
if clock > known_until then
  local info = call('INFO', 'replication')
  local _, place = string.find(info, 'master_replid:', 1, true)
  epoch = sub(info, place + 1, place + 16)
  told = epoch
end
local EXACT, GROUPS, PURSE = 4503599627370496, 13, 5
local SHORT, ELSE = struct_pack('>h', -1), struct_pack('>h', -2)
-- What is written of a workspace's own group.
local own_list = {'m', 0, 0, 0, 0, 0, 0, 0}

-- Takes a hold whose keys are behind a place.
local function hold(keys, q, first_part)
  local now, purses = q[1], q[7]
  local at, cell = GROUPS, 1
  local generations, before = '', ''
  local look_at, open, own_built, own_generation, guard, paid, purse_values, purse_at
  -- When the youngest of the groups was built.
  local built = -1
  for i = 1, q[5] do
    local count = q[at]
    local values = call('HMGET', KEYS[keys + 2 + i], unpack(q, at + 1, at + count))
    at = at + count + 1
    local brief = values[1]
    if not brief then
      return ELSE
    end
    local its_epoch, its_look, its_open, its_built = struct_unpack('>c16ddd', brief)
    if its_epoch ~= epoch or its_look <= now then
      return ELSE
    end
    if i == 1 then
      look_at, open, own_built, own_generation, guard = its_look, its_open, its_built, sub(brief, 41, 60), sub(brief, 61)
      count = count - purses
      purse_values, purse_at = values, count
    elseif sub(brief, 61) ~= guard then
      return ELSE
    end
    if i > 1 or q[4] == 1 then
      for j = 2, count do
        local value = values[j]
        if not value then
          return ELSE
        elseif #value ~= 24 then
          if #value ~= 32 then
            return ELSE
          end
          paid = paid or {}
          paid[cell + 3 * j - 6] = struct_unpack('>d', value, 25)
          values[j] = sub(value, 1, 24)
        end
      end
      local cells_of = concat(values, '', 2, count)
      generations = i == 1 and own_generation or generations .. sub(brief, 41, 60)
      before = cell == 1 and cells_of or before .. cells_of
      cell = cell + 3 * count - 3
    end
    if (i > 1 or q[4] == 1 or purses > 0) and its_built < 0 then
      return ELSE
    elseif its_built > built then
      built = its_built
    end
  end
  -- More may have been open than are now: counted by the other script when that would matter.
  if open >= q[3] then
    return ELSE
  end
  local cells, counter = {struct_unpack(q[12], before)}, q[9]
  for k = 1, cell - 1, 3 do
    -- What is beyond EXACT is kept otherwise, and looks like more than that here.
    if cells[k] >= EXACT then
      return ELSE
    elseif cells[k + 2] < 0 then
      local start = q[counter + 1]
      if start < 0 or start < built or start < q[2] then
        return ELSE
      end
    end
    counter = counter + 2
  end

  local granted
  if purses > 0 then
    granted = {}
    for i = 1, purses do
      local k = q[10] + PURSE * (i - 1)
      local value = purse_values[purse_at + i]
      if not value then
        return ELSE
      end
      local left, ends_at = struct_unpack('>dd', value)
      if ends_at <= now or (#value > 24 and sub(value, 25) ~= q[k + 3]) then
        return ELSE
      end
      local sum = left + (paid and paid[q[k]] or 0)
      granted[q[k]] = sum < EXACT and sum or EXACT
      before = before .. struct_pack('>dd', q[k + 1], granted[q[k]])
    end
  end

  local rung = q[10] + PURSE * purses
  for number = 0, q[6] - 1 do
    local after, fits = rung + 9 + 4 * q[rung + 4], true
    for i = rung + 9, after - 4, 4 do
      local limited, below, ceiling = q[i], q[i + 2], q[i + 3]
      if limited < 0 then
        limited = -limited
        below, ceiling = below and below + granted[limited], ceiling and ceiling + granted[limited]
      end
      local taken = cells[limited] + cells[limited + 1]
      if below and below <= taken then
        fits = false
        break
      elseif ceiling and q[rung + q[i + 1]] > ceiling - taken then
        if q[rung + 5] then
          return ELSE
        end
        fits = false
        break
      end
    end
    if fits then
      local lists = {own_list, 0}
      at, cell, counter = GROUPS, 1, q[9]
      for i = 1, q[5] do
        local list, filled = own_list, 0
        if i > 1 then
          list = {}
        else
          local expiry = q[rung + 8]
          list[2] = struct_pack('>c16ddd', epoch, expiry < look_at and expiry or look_at, open + 1, own_built) .. own_generation .. guard
          filled = 2
        end
        for j = at + 2, at + q[at] - (i == 1 and purses or 0) do
          local held = cells[cell] + q[rung + q[counter]]
          if held >= EXACT then
            return ELSE
          end
          list[filled + 1] = q[j]
          if paid and paid[cell] then
            list[filled + 2] = struct_pack('>dddd', held, cells[cell + 1], cells[cell + 2], paid[cell])
          else
            list[filled + 2] = struct_pack('>ddd', held, cells[cell + 1], cells[cell + 2])
          end
          cell, counter, filled = cell + 3, counter + 2, filled + 2
        end
        if i == 1 then
          for k = 1, purses do
            -- The first that a counter holds on a purse is noted there.
            local purse, value = q[10] + PURSE * (k - 1), purse_values[purse_at + k]
            local from, need = q[purse], q[rung + q[purse + 4]]
            local held = cells[from] + need
            if #value == 24 and held > 0 and held + cells[from + 1] > q[purse + 2] + (paid and paid[from] or 0) then
              list[filled + 1], list[filled + 2] = q[at + q[at] - purses + k], value .. q[purse + 3]
              filled = filled + 2
            end
          end
        end
        at = at + q[at] + 1
        lists[2 * i - 1], lists[2 * i] = list, filled
      end
      -- The first write: whoever has this id already is looked at by the other script.
      if not call('SET', KEYS[keys + 2], first_part .. q[rung + 6] .. generations .. q[11] .. before, 'NX', 'PX', '1296000000') then
        return ELSE
      end
      -- Where the guard was not there, the index was lost, and what it knew of holds that are still counted.
      local member, due = q[rung + 7], nil
      local added
      if q[8] == 1 then
        due = '~' .. sub(member, 7, 54)
        added = call('ZADD', KEYS[keys + 1], '0', guard, '0', member, '0', due) - 1
      else
        added = call('ZADD', KEYS[keys + 1], '0', guard, '0', member)
      end
      if added ~= 1 then
        -- Where the member was there already, its record was lost, and it is not for this hold to take it away.
        if added > 1 then
          call('ZREM', KEYS[keys + 1], guard, member, due or member)
        end
        call('DEL', KEYS[keys + 2])
        return ELSE
      end
      for i = 1, q[5] do
        call('HSET', KEYS[keys + 2 + i], unpack(lists[2 * i - 1], 1, lists[2 * i]))
      end
      return struct_pack('>h', number), before
    end
    rung = after
  end
  -- Whoever holds already is not short of what it holds.
  if call('EXISTS', KEYS[keys + 2]) ~= 0 then
    return ELSE
  end
  return SHORT, before
end

local answers, filled, keys = {'', '', '', '', '', '', '', ''}, 0, 0
local is_over = turns == 2 and call('EXISTS', KEYS[#KEYS]) == 1
for i = 2, #ARGV, 2 do
  local what, balances = ELSE, nil
  if not is_over then
    local q = {cmsgpack.unpack(ARGV[i])}
    what, balances = hold(keys, q, ARGV[i + 1])
    keys = keys + 2 + q[5]
    if what == ELSE and turns > 0 then
      is_over = true
      if turns == 2 then
        call('SET', KEYS[#KEYS], '', 'PX', '60000')
      end
    end
  end
  answers[filled + 1], answers[filled + 2] = what, balances
  filled = filled + (balances and 2 or 1)
end
return {'plain', clock, told, concat(answers, '', 1, filled)}
