-- GCRA (generic cell rate algorithm) as an exact bucket, on the clock of Redis; decides as
-- `limiter.rs` does in memory.
-- KEYS[1]: the limit. ARGV: microseconds that one call takes, most calls at once, calls asked for now.
-- Kept: the theoretical arrival time in microseconds, for as long as it lies ahead.
-- Answers: allowed (0 or 1), calls left, microseconds until all is free, microseconds to wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local max = tonumber(ARGV[2])
local cost = tonumber(ARGV[3])

local tolerance = interval * max
local arrival = tonumber(redis.call('GET', KEYS[1])) or now
-- A quota that shrank, or a clock set back, leaves more than the quota could have made itself.
local debt = math.min(math.max(arrival - now, 0), tolerance)
local wanted = debt + interval * cost

if wanted > tolerance then
  return { 0, math.floor((tolerance - debt) / interval), debt, wanted - tolerance }
end
if cost > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', now + wanted), 'PX', math.ceil(wanted / 1000))
end
return { 1, math.floor((tolerance - wanted) / interval), wanted, 0 }
