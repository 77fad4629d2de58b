#!/usr/bin/env bash
# pydantic-ai-slim 2.68.0 (mcp 2.3.0): a tool that adds a tool and says `notifications/tools/list_changed`. On
# a connection of 2025-11-25 the next `list_tools()` has the new tool. On one of 2026-07-28 the toolset caches
# the list as before and never sends `subscriptions/listen`, so that the server has no way to tell it: the list
# stays old until the connection ends.
#
# Seen: "2025-11-25: grow, then grow, new" and "2026-07-28: grow, then grow".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'pydantic-ai-slim[mcp]==2.68.0' 'fastmcp-slim==4.2.3' 'mcp==2.3.0'

cat >server.py <<'PY'
"""A stdio server of both revisions, or without `server/discover` if an argument says so."""
import json, sys

tools = ["grow"]

def write(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    number, method, params = request["id"], request["method"], request.get("params") or {}
    modern = "io.modelcontextprotocol/protocolVersion" in params.get("_meta", {})
    about = {"serverInfo": {"name": "server", "version": "1"}, "capabilities": {"tools": {"listChanged": True}}}
    print(method, file=sys.stderr, flush=True)
    if method == "initialize":
        result = {**about, "protocolVersion": "2025-11-25"}
    elif method == "server/discover" and len(sys.argv) == 1:
        result = {**about, "supportedVersions": ["2026-07-28"], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    elif method == "tools/list":
        schema = {"type": "object", "properties": {}}
        result = {"tools": [{"name": name, "description": "Does something.", "inputSchema": schema} for name in tools]}
        result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if modern else {}
    elif method == "tools/call":
        tools.append("new")
        if not modern:
            write(method="notifications/tools/list_changed")
        result = {"content": [{"type": "text", "text": "grown"}]} | ({"resultType": "complete"} if modern else {})
    else:
        write(id=number, error={"code": -32601, "message": "unknown method"})
        continue
    write(id=number, result=result)
PY

cat >client.py <<'PY'
import asyncio, sys
from fastmcp.client.transports import StdioTransport
from pydantic_ai.mcp import MCPToolset

async def main():
    async with MCPToolset(StdioTransport(sys.executable, ["server.py", *sys.argv[1:]])) as toolset:
        names = lambda tools: ", ".join(tool.name for tool in tools)
        before = names(await toolset.list_tools())
        await toolset.direct_call_tool("grow", {})
        await asyncio.sleep(1)
        print(f"{before}, then {names(await toolset.list_tools())}")

asyncio.run(main())
PY

check() {
    local revision="$1" expected="$2" seen
    shift 2
    seen="$(timeout 60 venv/bin/python client.py "$@" 2>err | tail -n 1)"
    echo "$revision: $seen"
    [ "$seen" = "$expected" ] || { tail -n 5 err; echo "this has changed; it was: $expected" >&2; exit 1; }
}
check 2025-11-25 "grow, then grow, new" old
check 2026-07-28 "grow, then grow"
# What the server was asked on the second connection.
grep -q server/discover err && ! grep -q -e initialize -e subscriptions/listen err || { echo "asked otherwise now: $(sort -u err)" >&2; exit 1; }
