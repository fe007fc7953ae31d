#!lua
-- Purses: what the grants of a budget have left. Each is a field of the workspace's own group:
--   p unit budget   three doubles, left, until and version; then a line for each counter that has held on it: ':' column ' ' field ' ' limit
-- A use of a purse is five values: the counter's place, the purse's field, the limit, the counter's column and field.
local HOLDERS_MAX = 200

local function purse_of(W, field)
  if W[field] == nil then
    W[field] = call('HGET', W.key, field)
  end
  return W[field]
end

-- Copies a purse if it is newer than the one that is here: of a later write, or of the same one at a later time.
local function fill(W, field, left, ends_at, version)
  local value, lines = purse_of(W, field), ''
  if value then
    local _, known_end, known = struct.unpack('>ddd', value)
    if version < known or (version == known and ends_at <= known_end) then
      return
    end
    lines = sub(value, 25)
  end
  write(W, field, struct.pack('>ddd', left, ends_at, version) .. lines)
end

-- How much a counter holds on grants, past a limit and what they paid. Where its sum may be old, all that it holds.
local function on_grants(workspace, column, field, hard)
  local g = fetch(workspace, column, {field})
  local counter = g.cells[field]
  if not counter or period_end(field) + HOUR <= now then
    return 0
  end
  local held, spent = counter[1], counter[2] or 0
  if type(held) ~= 'number' or type(spent) ~= 'number' then
    return EXACT
  elseif not g.b or g.e ~= epoch then
    return held
  end
  return math.max(math.min(spent + held - hard - (counter[4] or 0), held), 0)
end

-- What a purse has left for a counter: less what the others hold on it; nil: only the ledger knows.
local function left_for(workspace, uses, i)
  local W = fetch(workspace, '*', {})
  local value = W.b and W.e == epoch and purse_of(W, uses[i + 1])
  if not value then
    return nil
  end
  local left, ends_at = struct.unpack('>dd', value)
  if ends_at <= now then
    return nil
  end
  local count = 0
  for column, field, hard in string.gmatch(sub(value, 25), ':(%S*) (%S+) (%S+)\n') do
    if column ~= uses[i + 3] or field ~= uses[i + 4] then
      local held = on_grants(workspace, column, field, tonumber(hard))
      if held > 0 then
        left, count = left - held, count + 1
      end
    end
  end
  return count < HOLDERS_MAX and left > 0 and left or 0
end

local function paid_of(workspace, column, field)
  local counter = fetch(workspace, column, {field}).cells[field]
  return counter and counter[4] or 0
end

-- The place and what is granted of each counter that has a purse; nil: one of these is not known.
local function raise(workspace, uses)
  local told = {}
  for i = 1, #uses, 5 do
    local left = left_for(workspace, uses, i)
    if not left then
      return nil
    end
    told[#told + 1] = uses[i]
    told[#told + 1] = math.min(left + paid_of(workspace, uses[i + 3], uses[i + 4]), EXACT)
  end
  return told
end

-- Adds the workspace's own group to those that must be rebuilt first.
local function ask_for_own(unready)
  for i = 1, #unready do
    if unready[i] == '*' then
      return
    end
  end
  unready[#unready + 1] = '*'
end

-- Notes the counters that hold on their purses by now. One that is new there takes the place of those that no longer do.
local function note(workspace, uses)
  for i = 1, #uses, 5 do
    local hard, own_column, own_field = uses[i + 2], uses[i + 3], uses[i + 4]
    if on_grants(workspace, own_column, own_field, hard) > 0 then
      local W = fetch(workspace, '*', {})
      local value = purse_of(W, uses[i + 1])
      local own = ':' .. own_column .. ' ' .. own_field .. ' ' .. format('%.0f', hard) .. '\n'
      local all, holding, known = {}, {}, false
      for column, field, then_hard in string.gmatch(sub(value, 25), ':(%S*) (%S+) (%S+)\n') do
        local line = ':' .. column .. ' ' .. field .. ' ' .. then_hard .. '\n'
        if column == own_column and field == own_field then
          known, line = true, own
        elseif not known and on_grants(workspace, column, field, tonumber(then_hard)) > 0 then
          holding[#holding + 1] = line
        end
        all[#all + 1] = line
      end
      holding[#holding + 1] = own
      local text = sub(value, 1, 24) .. table.concat(known and all or holding)
      if text ~= value then
        write(W, uses[i + 1], text)
      end
    end
  end
end
