#!lua
-- How reservations end and change. Of a script that only takes a hold, nothing of this is made.
local the_ends
local function ends()
  if the_ends then
    return the_ends
  end
  local E = {}
  the_ends = E

  local function put(id, r)
    local known = records[id]
    if not known then
      known = {key = base .. 'r:' .. id}
      records[id] = known
    end
    known.r, known.dirty = r, true
  end

  local function move(member, present)
    if member then
      moves[member] = present
    end
  end
  E.move = move

  -- Requests of a minute or hour: a rate counts attempts, so they stay held when a reservation is released or expires.
  local function is_sticky(field)
    local unit, kind = byte(field, 1, 2)
    return unit == 82 and (kind == 109 or kind == 104)
  end
  E.is_sticky = is_sticky

  -- The generation of a holder in which a hold was taken.
  local function generation(r, holder)
    return sub(r[GENERATIONS], GENERATION * (holder - 1) + 1, GENERATION * holder)
  end
  E.generation = generation

  -- The groups that a hold holds on, in their order; false: of another generation, in which it counts nothing.
  local function holders(r)
    local fields, found = {}, {}
    for i = 1, #r[HOLDERS] do
      fields[i] = {}
    end
    for i = 1, #r[COUNTERS], 3 do
      local own = fields[r[COUNTERS][i]]
      own[#own + 1] = r[COUNTERS][i + 1]
    end
    for i = 1, #fields do
      local g = fetch(r[WORKSPACE], r[HOLDERS][i], fields[i])
      found[i] = g.n == generation(r, i) and g
    end
    return found
  end

  -- Whether a live hold lost its place in some group: it counts there no more, so nobody may rely on it.
  function E.is_lost(r)
    for _, g in ipairs(holders(r)) do
      if not g then
        return true
      end
    end
    return false
  end

  -- Frees amounts on the counters of a hold; of sticky or other ones only, if `sticky` is given.
  local function free(r, amounts, sticky)
    local found = holders(r)
    for i = 1, #r[COUNTERS], 3 do
      local g, field, amount = found[r[COUNTERS][i]], r[COUNTERS][i + 1], amounts[r[COUNTERS][i + 2]]
      if g and g.cells[field] and amount > 0 and (sticky == nil or is_sticky(field) == sticky) then
        local counter = cell(g, field)
        counter[1] = plus(counter[1], -amount)
      end
    end
  end

  local function remaining(r)
    local left = {}
    for i = 0, 3 do
      left[i + 1] = math.max(r[TAKEN + i] - r[USED + i] - (r[LENT + i] or 0), 0)
    end
    return left
  end
  E.remaining = remaining

  -- The live hold that a call draws from, and its id. The same id held anew has another nonce, and is another one.
  local function parent(r)
    local id = r[PARENT] and sub(r[PARENT], 1, 32)
    local p = id and record(id)
    if p and p[END] == 0 and p[LENT] and p[NONCE] == sub(r[PARENT], 33) then
      return p, id
    end
  end
  E.parent = parent

  -- What live holds have left adds up to what their counters hold. So when a call changes, its counters free by how much less remains of it
  -- (`less`) and of its parent together, which follows it here: nothing where amounts only move between the two.
  local function follow(p, id, less, used, ended)
    local before = remaining(p)
    for i = 0, 3 do
      p[LENT + i] = p[LENT + i] - less[i + 1]
      p[USED + i] = p[USED + i] + used[i + 1]
    end
    p[CHILDREN] = p[CHILDREN] - ended
    local after, freed = remaining(p), {}
    for i = 1, 4 do
      freed[i] = less[i] + before[i] - after[i]
    end
    put(id, p)
    return freed
  end

  -- Ends a live hold: what remains of it is free.
  local function finish(id, r, ended, at)
    local member, due = places(id, r)
    move(member, false)
    move(due, false)
    -- What a parent still has was not attempted.
    local keeps = not r[LENT] and (ended == RELEASED or (ended == EXPIRED and r[CHARGED] % 2 == 0))
    local left = remaining(r)
    local p, parent_id = parent(r)
    if p then
      -- What a rate keeps as attempted does not go back.
      local tried = {0, 0, 0, 0}
      for i = 2, keeps and #r[COUNTERS] or 0, 3 do
        if is_sticky(r[COUNTERS][i]) then
          tried[3] = left[3]
        end
      end
      left = follow(p, parent_id, left, tried, 1)
    end
    if keeps then
      free(r, left, false)
    else
      free(r, left)
    end
    if ended == EXPIRED then
      r[END], r[ENDED_AT] = ended, at
      put(id, r)
    else
      put(id, {ended, at, r[WORKSPACE], r[FINGERPRINT]})
    end
  end
  E.finish = finish

  -- The member by which an end that came by itself waits to be told; nil: nobody wants to hear of it.
  local function told_by(id, r)
    return r[END] == EXPIRED and r[CHARGED] == 2 and '~' .. format('%016.0f', r[EXPIRES_AT]) .. id or nil
  end
  E.told_by = told_by

  -- Ends a live hold whose time is over.
  local function run_out(id, r, at)
    finish(id, r, EXPIRED, at)
    move(told_by(id, r), true)
  end

  -- Changes a live hold, moves it in the index, and frees what no longer remains of it.
  local function change(id, r, how)
    local member, due = places(id, r)
    local before, used = remaining(r), {r[USED], r[USED + 1], r[USED + 2], r[USED + 3]}
    local p, parent_id = parent(r)
    how(r)
    local new_member, new_due = places(id, r)
    if member ~= new_member or due ~= new_due then
      move(member, false)
      move(due, false)
      move(new_member, true)
      move(new_due, true)
    end
    local after, freed, any = remaining(r), {}, false
    for i = 1, 4 do
      freed[i] = before[i] - after[i]
      used[i] = r[USED + i - 1] - used[i]
    end
    if p then
      freed = follow(p, parent_id, freed, used, 0)
    end
    for i = 1, 4 do
      any = any or freed[i] > 0
    end
    if any then
      free(r, freed)
    end
    put(id, r)
  end
  E.change = change

  -- A call has used so much in all, and no word of it means as much as it held. Of others nothing has to be known to end them.
  local function use_up(id, r, used)
    if r[PARENT] then
      change(id, r, function()
        for i = 0, 3 do
          r[USED + i] = math.max(r[USED + i], used and used[i + 1] or r[TAKEN + i])
        end
      end)
    end
  end

  -- A call that had given back what it held is settled after all: its run, while it lives, has that much less, and holds it no more. What
  -- was kept as attempted the run has less already.
  local function use_late(r, used)
    local p, parent_id = parent(r)
    if not p then
      return
    end
    local more = {}
    for i = 0, 3 do
      more[i + 1] = math.max((used and used[i + 1] or r[TAKEN + i]) - r[USED + i], 0)
    end
    for i = 2, r[CHARGED] % 2 == 0 and #r[COUNTERS] or 0, 3 do
      if is_sticky(r[COUNTERS][i]) then
        more[3] = math.max(more[3] - remaining(r)[3], 0)
        break
      end
    end
    free(p, follow(p, parent_id, {0, 0, 0, 0}, more, 0))
  end

  -- A reservation as it is now: past its expiry it has ended, and after a day an end is forgotten.
  local function refreshed(id)
    local r = record(id)
    if r and r[END] == 0 then
      local _, _, own = places(id, r)
      if own and own <= now then
        run_out(id, r, own)
        r = record(id)
      end
    end
    if r and r[END] ~= 0 and r[ENDED_AT] + DAY <= now then
      put(id, false)
      return nil
    end
    return r
  end
  E.refreshed = refreshed

  -- A member whose reservation is not there: what it held cannot be told any more, so its groups begin anew.
  local function forsake(member)
    move(member, false)
    local known = records[sub(member, 23, 54)]
    if known and known.dirty then
      -- This script itself forgot it a moment ago.
      return
    end
    local workspace
    for name in string.gmatch(sub(member, 55), ',([^,]*)') do
      if workspace then
        fetch(workspace, name, {}).gone = true
      else
        workspace = name
      end
    end
  end
  E.forsake = forsake

  -- Ends the holds of these members, which have expired.
  function E.expire(members)
    for i = 1, #members do
      local id = sub(members[i], 23, 54)
      local r = record(id)
      if not r then
        forsake(members[i])
      elseif r[END] ~= 0 or places(id, r) ~= members[i] then
        move(members[i], false)
      else
        run_out(id, r, r[EXPIRES_AT])
      end
    end
  end

  -- Follows a reservation to where the ledger has it: 0 and what is used, or an end, perhaps with what was used.
  function E.progress(workspace, id, ended, used)
    local r = refreshed(id)
    if not r then
      if ended ~= 0 then
        put(id, {ended, now, workspace, UNKNOWN})
      end
      return
    elseif r[WORKSPACE] ~= workspace then
      return
    elseif ended ~= 0 then
      -- The ledger knows of its end, so who wants to hear of it is told from there.
      move(told_by(id, r), false)
    end
    if r[END] == 0 and ended ~= 0 then
      if used or ended == SETTLED then
        use_up(id, r, used)
      end
      finish(id, r, ended, now)
    elseif r[END] == 0 and r[LENT] then
      -- What its calls used is known from them.
      return
    elseif r[END] == 0 then
      change(id, r, function()
        for i = 0, 3 do
          r[USED + i] = math.max(r[USED + i], used[i + 1])
        end
      end)
      -- With its claim ended it may have expired long ago.
      refreshed(id)
    elseif r[END] == EXPIRED and ended == SETTLED then
      use_late(r, used)
      -- It is spent now, so no rate keeps it a second time.
      if r[COUNTERS] and r[CHARGED] % 2 == 0 then
        free(r, remaining(r), true)
      end
      put(id, {ended, now, r[WORKSPACE], r[FINGERPRINT]})
    end
  end
  return E
end

-- Ends the holds of a workspace that have expired. True: there may be more.
local function expire(slot)
  local found = call('ZRANGEBYLEX', index, '[' .. slot, '(' .. slot .. format('%016.0f', now + 1), 'LIMIT', 0, EXPIRED_MAX)
  if #found > 0 then
    ends().expire(found)
  end
  return #found == EXPIRED_MAX
end
