#!lua
-- Gives a lead up, unless it is another's by now. KEYS: who leads. ARGV: until when the lead was. Answers: 1, or 0 where it was not there.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('UNLINK', KEYS[1])
return 1
