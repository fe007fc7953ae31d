#!lua
-- What is known already of a request that wants to hold: `held` by this very call, sent again by a connection that lost its answer;
-- `replayed`, `mismatch`, `ended`, or `unready`; with it what the answer tells. Nothing: it may hold.
local function recall(workspace, id, fingerprint, nonce)
  if not record(id) then
    return nil
  end
  local r = ends().refreshed(id)
  if not r then
    return nil
  elseif r[WORKSPACE] ~= workspace or (r[FINGERPRINT] ~= fingerprint and r[FINGERPRINT] ~= UNKNOWN) then
    return 'mismatch'
  elseif r[END] ~= 0 then
    return 'ended', r[END]
  elseif fetch(workspace, '*', {}).a ~= epoch then
    return 'unready', {'*'}
  elseif not ends().is_lost(r) then
    return r[NONCE] == nonce and 'held' or 'replayed', r
  end
  -- Its hold died with a lost copy; the same request may hold again.
  ends().finish(id, r, EXPIRED, now)
end
