#!/usr/bin/env bash
# langchain-mcp-adapters 0.3.2 (mcp 1.30.0, Streamable HTTP): one call of a tool is six HTTP requests. Each call
# has a session of its own, and the SDK, which keeps output schemas for a session, asks for the whole tools/list
# after the answer of the call, whether the tool has an output schema or not. So every call transfers all
# definitions again, and no state of a session is ever met by a second call.
#
# Seen: "one call: DELETE, GET, POST initialize, POST notifications/initialized, POST tools/call, POST tools/list;
# 3 calls: 3 sessions, 3 lists".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'langchain-mcp-adapters==0.3.2' 'mcp==1.30.0'

cat >trial.py <<'PY'
import asyncio, http.server, json, threading
from langchain_mcp_adapters.client import MultiServerMCPClient

asked = []

class Server(http.server.BaseHTTPRequestHandler):
    """A Streamable HTTP server of 2025-11-25 with sessions and one tool."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, message=None):
        body = json.dumps(message).encode() if message else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Mcp-Session-Id", self.headers.get("Mcp-Session-Id") or f"session-{len(asked)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        asked.append(self.command)
        self.answer(405 if self.command == "GET" else 200)

    do_DELETE = do_GET

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked.append(f"POST {request['method']}")
        tool = {"name": "work", "description": "Works.", "inputSchema": {"type": "object", "properties": {}}}
        results = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "server", "version": "1"}},
            "tools/list": {"tools": [tool]},
            "tools/call": {"content": [{"type": "text", "text": "done"}]},
        }
        if "id" not in request:
            return self.answer(202)
        self.answer(200, {"jsonrpc": "2.0", "id": request["id"], "result": results[request["method"]]})

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()

async def main():
    place = {"transport": "streamable_http", "url": f"http://127.0.0.1:{server.server_port}/mcp"}
    (tool,) = await MultiServerMCPClient({"server": place}).get_tools()
    asked.clear()
    await tool.ainvoke({})
    # GET runs beside the others, so that its place among them varies.
    one = sorted(asked)
    await tool.ainvoke({})
    await tool.ainvoke({})
    print(f"one call: {', '.join(one)}; 3 calls: {asked.count('POST initialize')} sessions, {asked.count('POST tools/list')} lists")

asyncio.run(main())
PY

seen="$(timeout 60 venv/bin/python trial.py 2>err | tail -n 1)"
echo "langchain-mcp-adapters 0.3.2: $seen"
expected="one call: DELETE, GET, POST initialize, POST notifications/initialized, POST tools/call, POST tools/list; 3 calls: 3 sessions, 3 lists"
[ "$seen" = "$expected" ] || { tail -n 5 err; echo "this has changed; it was: $expected" >&2; exit 1; }
