#!lua
-- Forgets all answers of a feature. KEYS: when each expires, how large each is. ARGV: what keys of answers begin with, what those of
-- places begin with before the digits of an id, and how many seconds a place is known after its answer went. Answers: how many.
local names = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, name in ipairs(names) do
    local id = redis.call('GETRANGE', ARGV[1] .. name, 2, 17)
    if #id == 16 then
        local digits = string.gsub(id, '.', function(byte) return string.format('%02x', string.byte(byte)) end)
        if redis.call('TTL', ARGV[2] .. digits) > tonumber(ARGV[3]) then
            redis.call('EXPIRE', ARGV[2] .. digits, ARGV[3])
        end
    end
    redis.call('UNLINK', ARGV[1] .. name)
end
redis.call('DEL', KEYS[1], KEYS[2])
return #names
