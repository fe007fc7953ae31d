#!lua
-- Leads for an answer, unless somebody else does.
-- KEYS: who leads for it. ARGV: now, until when a leader leads, the same in seconds. Answers: whether the caller leads.
local leads_until = redis.call('GET', KEYS[1])
if leads_until and tonumber(leads_until) > tonumber(ARGV[1]) then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
