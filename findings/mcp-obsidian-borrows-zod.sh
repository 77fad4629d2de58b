#!/usr/bin/env bash
# mcp-obsidian 1.0.0 (npm) imports zod and does not declare it: it gets the one that its dependency
# zod-to-json-schema brings for itself. Since that accepts zod 4, a fresh install lists every tool with an
# `inputSchema` that is no more than `$schema`. The same server beside zod 3.25.76 lists full schemas.
#
# Seen: "zod 4.6.7: read_notes [$schema], search_notes [$schema]" and "zod 3.25.76: read_notes
# [$schema, additionalProperties, properties, required, type], search_notes [the same]".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir vault

cat >client.py <<'PY'
import json, subprocess, sys

pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
process = subprocess.Popen(sys.argv[1:], text=True, **pipes)

def write(**message):
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()

def ask(number, method, params):
    write(id=number, method=method, params=params)
    return json.loads(process.stdout.readline())["result"]

client = {"name": "finding", "version": "1"}
ask(1, "initialize", {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client})
write(method="notifications/initialized")
tools = ask(2, "tools/list", {})["tools"]
print(", ".join(f"{tool['name']} [{', '.join(sorted(tool['inputSchema']))}]" for tool in tools))
process.kill()
PY

check() {
    local zod="$1" members="$2" seen expected
    mkdir "$zod"
    (cd "$zod" && npm init --yes >/dev/null && npm install --no-audit --no-fund --loglevel=error \
        mcp-obsidian@1.0.0 zod-to-json-schema@3.25.2 "zod@$zod")
    seen="$(timeout 30 python3 client.py "$zod/node_modules/.bin/mcp-obsidian" vault)"
    echo "zod $zod: $seen"
    expected="read_notes [$members], search_notes [$members]"
    [ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
}
check 4.6.7 '$schema'
check 3.25.76 '$schema, additionalProperties, properties, required, type'
