#!lua
-- Looks for an answer, unless the request was decided before.
-- KEYS: the reservation's record, the answer, who leads for it. ARGV: now, until when a leader leads, the same in seconds.
-- Answers: whether it was decided, the answer, whether the caller leads.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return {1, false, 0}
end
local answer = redis.call('GET', KEYS[2])
if answer then
    return {0, answer, 0}
end
local leads_until = redis.call('GET', KEYS[3])
if leads_until and tonumber(leads_until) > tonumber(ARGV[1]) then
    return {0, false, 0}
end
redis.call('SET', KEYS[3], ARGV[2], 'EX', ARGV[3])
return {0, false, 1}
