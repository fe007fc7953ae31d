#!lua
-- Forgets the answer of an id, unless its key has another answer by now.
-- KEYS: where the answer of the id is, the answer, when each answer of the feature expires, how large each is.
-- ARGV: the id's bytes, the answer's name, how many seconds it stays known whose it was. Answers: 1, or 0 where it was not there.
local answer = redis.call('GETRANGE', KEYS[2], 2, 17)
if answer ~= ARGV[1] then
    return 0
end
local bytes = tonumber(redis.call('HGET', KEYS[4], ARGV[2]) or '0')
redis.call('HDEL', KEYS[4], ARGV[2])
if bytes > 0 then
    redis.call('HINCRBY', KEYS[4], 'all', -bytes)
end
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('UNLINK', KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
