-- Sends prepared requests in turn: `wrk … -s load.lua URL -- FILE NAME SENT`. FILE holds them, separated by the
-- character 30. It starts after the first SENT requests, which were sent before. The character 31 in a request is
-- replaced by a unique name: NAME and a number.
local prepared, turn, serial, name = {}, 0, 0, ""

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  name, turn = args[2], tonumber(args[3])
  for one in text:gmatch("[^\30]+") do
    local head, tail = one:match("^(.*)\31(.*)$")
    prepared[#prepared + 1] = head and {head, tail} or one
  end
end

function request()
  turn = turn % #prepared + 1
  local one = prepared[turn]
  if type(one) == "string" then
    return one
  end
  serial = serial + 1
  return one[1] .. name .. serial .. one[2]
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failed.status,
    failed.connect + failed.read + failed.write + failed.timeout))
end
