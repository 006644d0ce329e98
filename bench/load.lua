-- The load of wrk: one constant POST, and at the end one line of JSON with what became of it.
local function read(name)
    local file = assert(io.open(os.getenv(name), "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

wrk.method = "POST"
wrk.body = read("BENCH_BODY")
for name, value in read("BENCH_HEADERS"):gmatch("([^:\n]+): ([^\n]+)\n") do
    wrk.headers[name] = value
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\nRESULT {"requests":%d,"refused":%d,"broken":%d,"timeouts":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
        summary.requests, errors.status, errors.connect + errors.read + errors.write, errors.timeout,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
