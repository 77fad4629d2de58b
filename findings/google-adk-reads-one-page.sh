#!/usr/bin/env bash
# google-adk 2.13.0 (mcp 2.3.0): of a tools/list in pages an agent gets the first page. The `nextCursor` is
# neither followed nor reported, so a server that pages looks complete. @modelcontextprotocol/client 2.4.0
# follows the pages of the same server.
#
# Seen: "google-adk 2.13.0: one" and "client 2.4.0: one, two, three".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'google-adk[mcp]==2.13.0' 'mcp==2.3.0'
npm init --yes >/dev/null
npm install --no-audit --no-fund --loglevel=error @modelcontextprotocol/client@2.4.0

cat >server.py <<'PY'
"""A stdio server with three tools, one a page."""
import json, sys

NAMES = ["one", "two", "three"]

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer, params = {"jsonrpc": "2.0", "id": request["id"]}, request.get("params") or {}
    if request["method"] == "initialize":
        answer["result"] = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                            "serverInfo": {"name": "server", "version": "1"}}
    elif request["method"] == "tools/list":
        page = int(params.get("cursor") or 0)
        schema = {"type": "object", "properties": {}}
        answer["result"] = {"tools": [{"name": NAMES[page], "description": "Does something.", "inputSchema": schema}]}
        if page + 1 < len(NAMES):
            answer["result"]["nextCursor"] = str(page + 1)
    else:
        answer["error"] = {"code": -32601, "message": "unknown method"}
    print(json.dumps(answer), flush=True)
PY

cat >client.py <<'PY'
import asyncio, sys
from google.adk.tools.mcp_tool.mcp_session_manager import StdioConnectionParams
from google.adk.tools.mcp_tool.mcp_toolset import McpToolset
from mcp import StdioServerParameters

async def main():
    place = StdioServerParameters(command=sys.executable, args=["server.py"])
    toolset = McpToolset(connection_params=StdioConnectionParams(server_params=place))
    print(", ".join(tool.name for tool in await toolset.get_tools()))
    await toolset.close()

asyncio.run(main())
PY

cat >client.mjs <<'JS'
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
const client = new Client({ name: 'finding', version: '1' });
await client.connect(new StdioClientTransport({ command: 'python3', args: ['server.py'] }));
const { tools } = await client.listTools();
console.log(tools.map((tool) => tool.name).join(', '));
await client.close();
JS

check() {
    local which="$1" expected="$2" seen
    shift 2
    seen="$(timeout 60 "$@" 2>err | tail -n 1)"
    echo "$which: $seen"
    [ "$seen" = "$expected" ] || { tail -n 5 err; echo "this has changed; it was: $expected" >&2; exit 1; }
}
check "google-adk 2.13.0" "one" venv/bin/python client.py
check "client 2.4.0" "one, two, three" node client.mjs
