#!/usr/bin/env bash
# strands-agents 1.62.0 (mcp 2.1.1): a tool that answers with a `resource_link` succeeds, and the agent is told
# nothing at all: content [] with status "success". Beside a text the link vanishes without a trace; the text
# that says to read the link stays.
#
# Seen: "link: success [], text and link: success ['The report is linked below.']".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'strands-agents==1.62.0' 'mcp==2.1.1'

cat >server.py <<'PY'
from mcp.server import MCPServer
from mcp.types import CallToolResult, ResourceLink, TextContent

server = MCPServer("server")
link = ResourceLink(type="resource_link", name="report", uri="https://example.com/report.pdf")

@server.tool()
def link_alone() -> CallToolResult:
    return CallToolResult(content=[link])

@server.tool()
def text_and_link() -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text="The report is linked below."), link])

server.run()
PY

cat >client.py <<'PY'
import sys
from mcp import StdioServerParameters, stdio_client
from strands.tools.mcp import MCPClient

def told(client, name):
    result = client.call_tool_sync(tool_use_id=name, name=name, arguments={})
    return f"{result['status']} {[block.get('text', block) for block in result['content']]}"

with MCPClient(lambda: stdio_client(StdioServerParameters(command=sys.executable, args=["server.py"]))) as client:
    print(f"link: {told(client, 'link_alone')}, text and link: {told(client, 'text_and_link')}")
PY

seen="$(timeout 60 venv/bin/python client.py 2>err | tail -n 1)"
echo "strands-agents 1.62.0: $seen"
expected="link: success [], text and link: success ['The report is linked below.']"
[ "$seen" = "$expected" ] || { tail -n 5 err; echo "this has changed; it was: $expected" >&2; exit 1; }
