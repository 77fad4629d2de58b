#!/usr/bin/env bash
# mcp-use 1.7.1 (mcp 1.30.0): arguments that the model left out are sent, as `null` where the schema has no
# default. A server that declares `"b": {"type": "string"}` as optional receives `"b": null`, which its own
# schema refuses.
#
# Seen: "given {'a': 'x'}, sent {"a": "x", "b": null, "c": 5}".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'mcp-use==1.7.1' 'mcp==1.30.0'

cat >server.py <<'PY'
"""A stdio server with one tool, which answers the arguments that it was sent."""
import json, sys

STRING = {"type": "string"}
SCHEMA = {"type": "object", "properties": {"a": STRING, "b": STRING, "c": {"type": "integer", "default": 5}},
          "required": ["a"]}

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer, params = {"jsonrpc": "2.0", "id": request["id"]}, request.get("params", {})
    if request["method"] == "initialize":
        answer["result"] = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                            "serverInfo": {"name": "server", "version": "1"}}
    elif request["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": "show", "description": "Shows.", "inputSchema": SCHEMA}]}
    elif request["method"] == "tools/call":
        answer["result"] = {"content": [{"type": "text", "text": json.dumps(params["arguments"], sort_keys=True)}]}
    else:
        answer["error"] = {"code": -32601, "message": "unknown method"}
    print(json.dumps(answer), flush=True)
PY

cat >client.py <<'PY'
import asyncio, sys
from mcp_use import MCPClient
from mcp_use.agents.adapters import LangChainAdapter

async def main():
    client = MCPClient.from_dict({"mcpServers": {"server": {"command": sys.executable, "args": ["server.py"]}}})
    await client.create_all_sessions()
    adapter = LangChainAdapter()
    await adapter.create_all(client)
    given = {"a": "x"}
    sent = await next(tool for tool in adapter.tools if tool.name == "show").ainvoke(given)
    print(f"given {given}, sent {sent[0]['text'] if isinstance(sent, list) else sent}")
    await client.close_all_sessions()

asyncio.run(main())
PY

seen="$(MCP_USE_ANONYMIZED_TELEMETRY=false timeout 60 venv/bin/python client.py 2>err | grep '^given')"
echo "mcp-use 1.7.1: $seen"
expected="given {'a': 'x'}, sent {\"a\": \"x\", \"b\": null, \"c\": 5}"
[ "$seen" = "$expected" ] || { tail -n 5 err; echo "this has changed; it was: $expected" >&2; exit 1; }
