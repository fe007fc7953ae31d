#!lua
-- Forgets all answers of a feature. KEYS: when each expires, how large each is. ARGV: what keys of answers begin with. Answers: how many.
local names = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, name in ipairs(names) do
    redis.call('UNLINK', ARGV[1] .. name)
end
redis.call('DEL', KEYS[1], KEYS[2])
return #names
