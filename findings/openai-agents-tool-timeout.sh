#!/usr/bin/env bash
# openai-agents 0.24.0 (mcp 2.3.0): a tool that works for 7 s and reports progress every second is given up
# after 5 s. `client_session_timeout_seconds` is 5 and ends calls too, not only connecting; the call carries no
# progress token, so that the reports of progress reach nobody. With None the tool is waited for.
#
# Seen: "default: MCPError after 5 s, with None: done without a token after 7 s".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'openai-agents==0.24.0' 'mcp==2.3.0'

cat >server.py <<'PY'
import asyncio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

server = MCPServer("server")

@server.tool()
async def work(context: Context) -> str:
    for second in range(1, 8):
        await asyncio.sleep(1)
        await context.report_progress(second, 7)
    meta = context.request_context.meta or {}
    return "done with a token" if "progress_token" in meta or "progressToken" in meta else "done without a token"

server.run()
PY

cat >client.py <<'PY'
import asyncio, sys, time
from agents.mcp import MCPServerStdio

async def outcome(**options):
    place = {"command": sys.executable, "args": ["server.py"]}
    async with MCPServerStdio(params=place, **options) as server:
        began = time.monotonic()
        try:
            said = (await server.call_tool("work", {})).content[0].text
        except Exception as error:
            said = type(error).__name__
        return f"{said} after {time.monotonic() - began:.0f} s"

async def main():
    print(f"default: {await outcome()}, with None: {await outcome(client_session_timeout_seconds=None)}")

asyncio.run(main())
PY

seen="$(timeout 90 venv/bin/python client.py 2>err | tail -n 1)"
echo "openai-agents 0.24.0: $seen"
expected="default: MCPError after 5 s, with None: done without a token after 7 s"
[ "$seen" = "$expected" ] || { tail -n 5 err; echo "this has changed; it was: $expected" >&2; exit 1; }
