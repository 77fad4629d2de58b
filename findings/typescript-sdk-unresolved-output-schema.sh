#!/usr/bin/env bash
# @modelcontextprotocol/sdk 1.32.2: `listTools()` compiles the output schema of each tool, so one `$ref` to a
# document elsewhere, which JSON Schema allows, makes the whole list fail, and every tool is lost with it. Who
# calls the tool without a list gets its answer, unchecked. @modelcontextprotocol/client 2.4.0 compiles at the
# call: it lists both tools, and only the call of the odd one fails.
#
# Seen: "sdk 1.32.2: list fails, good answers, odd answers" and
# "client 2.4.0: list good odd, good answers, odd fails".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
npm init --yes >/dev/null
npm install --no-audit --no-fund --loglevel=error \
    @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0

cat >server.py <<'PY'
import json, sys

plain = {"type": "object"}
report = {"type": "object", "properties": {"report": {"$ref": "https://example.com/report.schema.json"}}}
tools = [{"name": "good", "inputSchema": plain}, {"name": "odd", "inputSchema": plain, "outputSchema": report}]

for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer, method = {"jsonrpc": "2.0", "id": request["id"]}, request["method"]
    if method == "initialize":
        answer["result"] = {"protocolVersion": request["params"]["protocolVersion"], "capabilities": {"tools": {}},
                            "serverInfo": {"name": "server", "version": "1"}}
    elif method == "tools/list":
        answer["result"] = {"tools": tools}
    elif method == "tools/call":
        answer["result"] = {"content": [], "structuredContent": {"report": {}}}
    else:
        answer["error"] = {"code": -32601, "message": "unknown method"}
    print(json.dumps(answer), flush=True)
PY

cat >client.mjs <<'JS'
const current = process.argv[2] === 'client';
const { Client } = await import(current ? '@modelcontextprotocol/client' : '@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = await import(
  current ? '@modelcontextprotocol/client/stdio' : '@modelcontextprotocol/sdk/client/stdio.js');
const client = new Client({ name: 'finding', version: '1' });
await client.connect(new StdioClientTransport({ command: 'python3', args: ['server.py'] }));
const named = ({ tools }) => tools.map((tool) => tool.name).join(' ');
const seen = [`list ${await client.listTools().then(named, () => 'fails')}`];
for (const name of ['good', 'odd']) {
  seen.push(`${name} ${await client.callTool({ name, arguments: {} }).then(() => 'answers', () => 'fails')}`);
}
console.log(seen.join(', '));
await client.close();
JS

check() {
    local which="$1" expected="$2" seen
    seen="$(timeout 30 node client.mjs "${which%% *}")"
    echo "$which: $seen"
    [ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
}
check "sdk 1.32.2" "list fails, good answers, odd answers"
check "client 2.4.0" "list good odd, good answers, odd fails"
