#!/usr/bin/env bash
# firecrawl-mcp 3.22.2 (npm): a client that declares `roots` with `listChanged` is asked for `roots/list` right
# after the answer of `initialize`, before it has sent `notifications/initialized`; MCP lets a server ask no more
# than pings until then. A client that declares `roots` without `listChanged` is never asked, though
# `listChanged` only says that changes will be told.
#
# Seen: "roots: before initialized [], after []" and
# "roots with listChanged: before initialized ['roots/list'], after []".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --no-audit --no-fund --loglevel=error firecrawl-mcp@3.22.2

cat >client.py <<'PY'
import json, os, queue, subprocess, threading, time

def asked(roots):
    """The requests of the server before and after the client says that it is initialized; each is answered."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "FIRECRAWL_API_KEY": "fc-key"}
    process = subprocess.Popen(["node_modules/.bin/firecrawl-mcp"], text=True, env=environment, **pipes)
    messages = queue.Queue()
    threading.Thread(target=lambda: [messages.put(json.loads(line)) for line in process.stdout], daemon=True).start()

    def write(**message):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()

    def requests(seconds):
        until, seen = time.monotonic() + seconds, []
        while (left := until - time.monotonic()) > 0:
            try:
                message = messages.get(timeout=left)
            except queue.Empty:
                break
            if "method" in message and "id" in message:
                seen.append(message["method"])
                write(id=message["id"], result={"roots": []})
        return seen

    about = {"name": "finding", "version": "1"}
    write(id=1, method="initialize", params={"protocolVersion": "2025-11-25", "capabilities": {"roots": roots}, "clientInfo": about})
    assert "result" in messages.get(timeout=30)
    before = requests(5)
    write(method="notifications/initialized")
    after = requests(5)
    process.kill()
    return f"before initialized {before}, after {after}"

print(f"roots: {asked({})}")
print(f"roots with listChanged: {asked({'listChanged': True})}")
PY

seen="$(timeout 120 python3 client.py)"
echo "firecrawl-mcp 3.22.2: $seen"
expected="roots: before initialized [], after []
roots with listChanged: before initialized ['roots/list'], after []"
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
