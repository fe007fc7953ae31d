#!lua
-- Keeps an answer. What expires first makes room for it, a sixteenth of what there may be at once, so that not every answer has to push one out.
-- Where an answer that went was is known for an hour more at most: nothing else bounds how many of these there are.
-- KEYS: the answer, who leads for it, where the answer of its id is, when each answer of the feature expires, how large each is, the features.
-- ARGV: the answer, its place, what keys of answers begin with, its own name, the feature, seconds to live, when it expires, now, how many
-- entries and bytes the feature may have, at how many percent of memory nothing is kept any more, what keys of places begin with before the digits
-- of an id, and how many seconds a place is known after its answer went.
-- Answers: 1, or 0 where there is no room.
local answer, place, prefix, name, feature = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local seconds, expires_at, now = tonumber(ARGV[6]), ARGV[7], ARGV[8]
local entries_max, bytes_max, percent_max = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local places, remembered = ARGV[12], tonumber(ARGV[13])
local index, sizes = KEYS[4], KEYS[5]
-- How many are pushed out in one step; a plan that now keeps fewer gets there by and by.
local PUSHED_OUT_MAX = 256
local LOT = 16

local memory = redis.call('INFO', 'memory')
local used, most = tonumber(string.match(memory, 'used_memory:(%d+)')), tonumber(string.match(memory, 'maxmemory:(%d+)'))
if used and most and most > 0 and used * 100 > most * percent_max then
    return 0
end

local function forget(other)
    local bytes = tonumber(redis.call('HGET', sizes, other) or '0')
    redis.call('HDEL', sizes, other)
    if bytes > 0 then
        redis.call('HINCRBY', sizes, 'all', -bytes)
    end
    redis.call('ZREM', index, other)
    local id = redis.call('GETRANGE', prefix .. other, 2, 17)
    if #id == 16 then
        local digits = string.gsub(id, '.', function(byte) return string.format('%02x', string.byte(byte)) end)
        if redis.call('TTL', places .. digits) > remembered then
            redis.call('EXPIRE', places .. digits, remembered)
        end
    end
    redis.call('UNLINK', prefix .. other)
end

forget(name)
for _, other in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, PUSHED_OUT_MAX)) do
    forget(other)
end
local function is_full()
    local bytes = tonumber(redis.call('HGET', sizes, 'all') or '0')
    return redis.call('ZCARD', index) >= entries_max or bytes + #answer > bytes_max
end
if is_full() then
    local entries = redis.call('ZCARD', index)
    local bytes = tonumber(redis.call('HGET', sizes, 'all') or '0')
    local entries_goal, bytes_goal = entries_max - 1, bytes_max
    if entries > entries_goal then
        entries_goal = entries_max - math.max(1, math.floor(entries_max / LOT))
    end
    if bytes + #answer > bytes_goal then
        bytes_goal = bytes_max - math.floor(bytes_max / LOT)
    end
    for _, first in ipairs(redis.call('ZRANGE', index, 0, PUSHED_OUT_MAX - 1)) do
        if redis.call('ZCARD', index) <= entries_goal and tonumber(redis.call('HGET', sizes, 'all') or '0') + #answer <= bytes_goal then
            break
        end
        forget(first)
    end
end
if is_full() then
    return 0
end
redis.call('SET', KEYS[1], answer, 'EX', seconds)
redis.call('SET', KEYS[3], place, 'EX', seconds)
redis.call('ZADD', index, expires_at, name)
redis.call('HSET', sizes, name, #answer)
redis.call('HINCRBY', sizes, 'all', #answer)
redis.call('SADD', KEYS[6], feature)
redis.call('DEL', KEYS[2])
-- They live as long as what they list.
for _, key in ipairs({index, sizes, KEYS[6]}) do
    if redis.call('TTL', key) < seconds then
        redis.call('EXPIRE', key, seconds)
    end
end
return 1
