#!/usr/bin/env bash
# @modelcontextprotocol/sdk 1.32.2 and @modelcontextprotocol/client 2.4.0 (stdio): progress notifications
# that reach the client in the same read as the answer never reach `onprogress`. The handler of the answer
# runs at once and forgets the progress token; those of the notifications run in a later microtask. The
# same notifications in a read of their own, 20 ms before the answer, are all heard.
#
# Seen: "sdk 1.32.2: together 0 of 3, apart 3 of 3" and "client 2.4.0: together 0 of 3, apart 3 of 3".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --no-audit --no-fund --loglevel=error \
    @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0

cat >server.py <<'PY'
import json, sys, time

def write(*messages):
    sys.stdout.write("".join(json.dumps(message) + "\n" for message in messages))
    sys.stdout.flush()

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer, params = {"jsonrpc": "2.0", "id": request["id"]}, request.get("params", {})
    if request["method"] == "initialize":
        server = {"name": "server", "version": "1"}
        answer["result"] = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": server}
        write(answer)
    elif request["method"] == "tools/call":
        token = params["_meta"]["progressToken"]
        progress = [{"jsonrpc": "2.0", "method": "notifications/progress",
                     "params": {"progressToken": token, "progress": step, "total": 3}} for step in (1, 2, 3)]
        answer["result"] = {"content": []}
        if params["name"] == "together":
            write(*progress, answer)
        else:
            write(*progress)
            time.sleep(0.02)
            write(answer)
    else:
        answer["error"] = {"code": -32601, "message": "unknown method"}
        write(answer)
PY

cat >client.mjs <<'JS'
const current = process.argv[2] === 'client';
const { Client } = await import(current ? '@modelcontextprotocol/client' : '@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = await import(
  current ? '@modelcontextprotocol/client/stdio' : '@modelcontextprotocol/sdk/client/stdio.js');
const client = new Client({ name: 'finding', version: '1' });
await client.connect(new StdioClientTransport({ command: 'python3', args: ['server.py'] }));
const heard = {};
for (const name of ['together', 'apart']) {
  heard[name] = 0;
  const options = { onprogress: () => { heard[name] += 1; } };
  const params = { name, arguments: {} };
  await (current ? client.callTool(params, options) : client.callTool(params, undefined, options));
  await new Promise((resolve) => setTimeout(resolve, 200));
}
console.log(`together ${heard.together} of 3, apart ${heard.apart} of 3`);
await client.close();
JS

expected="together 0 of 3, apart 3 of 3"
for which in "sdk 1.32.2" "client 2.4.0"; do
    seen="$(node client.mjs "${which%% *}")"
    echo "$which: $seen"
    [ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
done
