-- Every request buys a new license: only the license number changes. Arguments: request body before the number, after
-- the number, the first number. The figures go to standard error as one JSON line; see bench/wrk.py.

local before, after, number

function init(arguments)
  before, after, number = arguments[1], arguments[2], tonumber(arguments[3])
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
end

function request()
  number = number + 1
  return wrk.format(nil, nil, nil, before .. string.format("%010d", number) .. after)
end

function done(summary, latency, requests)
  local errors = summary.errors
  local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.stderr:write(string.format(
    '{"seconds":%f,"answers":%d,"failures":%d,"p50_ms":%f,"p90_ms":%f,"p99_ms":%f,"max_ms":%f}\n',
    summary.duration / 1e6, summary.requests, failures, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3))
end
