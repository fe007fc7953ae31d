#!lua
-- The longest answer that fits rooms, given by unit, and its amounts; nil: not even the shortest acceptable one. A cap is least; then for
-- tokens, usd and credits base, per output, denominator, up. Whole numerators are below EXACT, so each product that matters is exact, and
-- fmod always is.
local function shortened(rung, cap, rooms)
  local output = rung[5]
  -- Where the line of a unit begins in a cap; requests have none.
  local lines = {2, 6, false, 10}
  for unit = 1, 4 do
    local left, line = rooms[unit], lines[unit]
    if left and line then
      local first, per_output, denominator = cap[line], cap[line + 1], cap[line + 2]
      local whole = first + per_output * rung[5]
      local rest = math.fmod(whole, denominator)
      if left < (whole - rest) / denominator + (rest > 0 and 1 or 0) then
        local numerator = left >= 0 and left * denominator - first or -1
        if numerator < 0 then
          return nil
        end
        output = math.min(output, (numerator - math.fmod(numerator, per_output)) / per_output)
      end
    elseif left and rung[unit] > left then
      return nil
    end
  end
  if output < cap[1] then
    return nil
  end
  local amounts = {0, 0, rung[3], 0}
  for unit = 1, 4 do
    local line = lines[unit]
    if line then
      local numerator, denominator = cap[line] + cap[line + 1] * output, cap[line + 2]
      local rest = math.fmod(numerator, denominator)
      local whole = (numerator - rest) / denominator
      local is_odd = math.fmod(whole, 2) == 1
      if rest > 0 and (cap[line + 3] == 1 or 2 * rest > denominator or (2 * rest == denominator and is_odd)) then
        whole = whole + 1
      end
      amounts[unit] = whole
    end
  end
  return output, amounts
end
