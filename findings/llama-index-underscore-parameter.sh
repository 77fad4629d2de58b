#!/usr/bin/env bash
# llama-index-tools-mcp 0.6.0 (mcp 2.3.0): one tool with a parameter whose name begins with `_`, as JSON Schema
# allows, costs the agent every tool of the server. The schema becomes a pydantic model, where such a name
# means a private attribute, and the error leaves the loop over all tools.
#
# Seen: "good alone: ['good'], good beside _page: PydanticUserError".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'llama-index-tools-mcp==0.6.0' 'mcp==2.3.0'

cat >server.py <<'PY'
"""A stdio server with a tool `good`, and with `odd` if an argument names the parameter of `odd`."""
import json, sys

def tool(name, parameter):
    schema = {"type": "object", "properties": {parameter: {"type": "string"}}}
    return {"name": name, "description": "Does something.", "inputSchema": schema}

tools = [tool("good", "page")] + [tool("odd", parameter) for parameter in sys.argv[1:]]
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "initialize":
        answer["result"] = {"protocolVersion": request["params"]["protocolVersion"], "capabilities": {"tools": {}},
                            "serverInfo": {"name": "server", "version": "1"}}
    elif request["method"] == "tools/list":
        answer["result"] = {"tools": tools}
    else:
        answer["error"] = {"code": -32601, "message": "unknown method"}
    print(json.dumps(answer), flush=True)
PY

cat >client.py <<'PY'
import asyncio, sys
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec

async def names(*arguments):
    client = BasicMCPClient(sys.executable, args=["server.py", *arguments])
    try:
        return [tool.metadata.name for tool in await McpToolSpec(client=client).to_tool_list_async()]
    except Exception as error:
        return type(error).__name__

print(f"good alone: {asyncio.run(names())}, good beside _page: {asyncio.run(names('_page'))}")
PY

seen="$(timeout 60 venv/bin/python client.py 2>/dev/null | tail -n 1)"
echo "llama-index-tools-mcp 0.6.0: $seen"
expected="good alone: ['good'], good beside _page: PydanticUserError"
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
