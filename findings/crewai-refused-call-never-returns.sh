#!/usr/bin/env bash
# crewai-tools 1.15.30 (mcpadapt 0.1.19, mcp 1.30.0): a `tools/call` that the server refuses with HTTP 429
# never returns, and neither does the next one, which the server would have answered.
#
# Seen: "call 1: 3, call 2: no answer within 15 s, call 3: no answer within 15 s".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"; kill "${server:-0}" 2>/dev/null || true' EXIT
cd "$work"
python3 -m venv venv
# pip takes minutes to resolve these.
venv/bin/pip install --quiet --disable-pip-version-check uv
venv/bin/uv pip install --quiet --python venv/bin/python 'crewai-tools[mcp]==1.15.30' 'mcpadapt==0.1.19' 'mcp==1.30.0'

cat >server.py <<'PY'
"""A Streamable HTTP server of 2025-11-25 with one tool, whose second call is refused with 429."""
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

calls = 0

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(405)

    do_DELETE = do_GET

    def do_POST(self):
        global calls
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in message:
            return self.answer(202)
        method, params = message["method"], message.get("params", {})
        if method == "initialize":
            result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}},
                      "serverInfo": {"name": "server", "version": "1"}}
        elif method == "tools/list":
            number = {"type": "number"}
            schema = {"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]}
            result = {"tools": [{"name": "add", "description": "Adds.", "inputSchema": schema}]}
        else:
            calls += 1
            if calls == 2:
                error = {"code": -32000, "message": "too many requests"}
                body = {"jsonrpc": "2.0", "id": message["id"], "error": error}
                return self.answer(429, json.dumps(body).encode())
            result = {"content": [{"type": "text", "text": "3"}]}
        body = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        self.answer(200, json.dumps(body).encode())

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
PY

cat >client.py <<'PY'
import concurrent.futures, os, sys
from crewai_tools import MCPServerAdapter

with MCPServerAdapter({"url": sys.argv[1], "transport": "streamable-http"}) as tools:
    pool = concurrent.futures.ThreadPoolExecutor(3)
    seen = []
    for number in (1, 2, 3):
        call = pool.submit(lambda: tools[0].run(a=1, b=2))
        try:
            seen.append(f"call {number}: {call.result(15)}")
        except concurrent.futures.TimeoutError:
            seen.append(f"call {number}: no answer within 15 s")
        except Exception as error:
            seen.append(f"call {number}: {type(error).__name__}")
    print(", ".join(seen), flush=True)
    os._exit(0)
PY

venv/bin/python server.py >port &
server=$!
until [ -s port ]; do sleep 0.1; done
seen="$(timeout 120 venv/bin/python client.py "http://127.0.0.1:$(cat port)/mcp" 2>/dev/null | tail -n 1)"
echo "crewai-tools 1.15.30: $seen"
expected="call 1: 3, call 2: no answer within 15 s, call 3: no answer within 15 s"
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
