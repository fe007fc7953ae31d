#!lua
-- Counts open reservations.
--
-- KEYS     one index or several; of a cluster one
-- Answers  open: how many
local open = 0
for _, key in ipairs(KEYS) do
  open = open + call('ZLEXCOUNT', key, '-', '(~')
end
return {'open', clock, open}
