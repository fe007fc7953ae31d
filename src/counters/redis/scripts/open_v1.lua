#!lua
-- Counts open reservations.
--
-- KEYS     one index or several; of a cluster one
-- Answers  {open, the store's clock, how many}. It changes nothing, so it is never too late for it.
local time = redis.call('TIME')
local open = 0
for _, key in ipairs(KEYS) do
  open = open + redis.call('ZLEXCOUNT', key, '-', '(~')
end
return {'open', time[1] * 1000000 + time[2], open}
