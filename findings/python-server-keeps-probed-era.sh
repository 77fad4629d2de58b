#!/usr/bin/env bash
# mcp 2.3.0 and @modelcontextprotocol/server 2.4.0 (stdio), servers of both eras: a client asks
# `server/discover`, does not like the answer and sends `initialize` to the same process. The TypeScript server
# goes on in the old era. The Python server has bound its connection to 2026-07-28 by answering the probe and
# refuses with -32022; a second process that is sent `initialize` alone accepts it.
#
# Seen: "mcp 2.3.0: after discover -32022, alone 2025-11-25" and
# "server 2.4.0: after discover 2025-11-25, alone 2025-11-25".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'mcp==2.3.0'
npm init --yes >/dev/null
npm install --no-audit --no-fund --loglevel=error @modelcontextprotocol/server@2.4.0 zod@4.1.12

cat >server.py <<'PY'
from mcp.server import MCPServer

MCPServer("server").run()
PY

cat >server.mjs <<'JS'
import { McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
await serveStdio(() => new McpServer({ name: 'server', version: '1' }));
JS

cat >client.py <<'PY'
import json, subprocess, sys

REVISION = "2026-07-28"
client = {"name": "finding", "version": "1"}
meta = {"io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientInfo": client,
        "io.modelcontextprotocol/clientCapabilities": {}}
discover = ("server/discover", {"_meta": meta})
initialize = ("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})

def ask(*requests):
    """What the last answer says: the revision of its result, or the code of its error."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(sys.argv[1:], text=True, **pipes)
    for number, (method, params) in enumerate(requests):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if method == "server/discover":
            assert REVISION in answer["result"]["supportedVersions"], answer
    process.stdin.close()
    process.terminate()
    process.wait()
    return answer["result"]["protocolVersion"] if "result" in answer else answer["error"]["code"]

print(f"after discover {ask(discover, initialize)}, alone {ask(initialize)}")
PY

check() {
    local which="$1" expected="$2" seen
    shift 2
    seen="$(timeout 30 python3 client.py "$@")"
    echo "$which: $seen"
    [ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
}
check "mcp 2.3.0" "after discover -32022, alone 2025-11-25" venv/bin/python server.py
check "server 2.4.0" "after discover 2025-11-25, alone 2025-11-25" node server.mjs
