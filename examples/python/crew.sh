#!/bin/sh
# Trial of crew.py with all tasks on the gateway, none and half of them, in a virtual environment of its own.
#
# CREW_VENV names a folder for the environment that is kept; without it, it is made anew and deleted (1.1 GB).
set -eu
cd "$(dirname "$0")"
export MCP_GATEWAY_URL="${MCP_GATEWAY_URL:-http://127.0.0.1:8100}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 1' INT TERM
venv=${CREW_VENV:-$folder/venv}

fail() {
    echo "crew.sh: $*" >&2
    exit 1
}

curl -sf -m 10 "$MCP_GATEWAY_URL/health" > "$folder/health" || fail "no gateway answers at $MCP_GATEWAY_URL"
if [ ! -x "$venv/bin/python" ]; then
    echo "installing CrewAI; this takes a minute or more"
    python3 -m venv "$venv"
fi
"$venv/bin/pip" install -q -r requirements-crew.txt || fail "CrewAI cannot be installed"

# Prints the tasks of a run that are done on the gateway, with the numbers of their steps and versions.
cat > "$folder/done.py" <<'PYTHON'
import json, os, sys, urllib.request

def call(tool, **given):
    headers = {"Content-Type": "application/json", "X-Agent-Id": "crew-check"}
    headers |= {"X-MCP-Key": os.environ["MCP_KEY"]} if os.environ.get("MCP_KEY") else {}
    asked = urllib.request.Request(f"{os.environ['MCP_GATEWAY_URL']}/tools/{tool}", json.dumps(given).encode(), headers)
    return json.load(urllib.request.urlopen(asked))

for task in call("task_list", parent=sys.argv[1], status="done")["tasks"]:
    events = call("subscribe_logs", task_id=task["id"])["events"]
    kinds = [event["kind"] for event in events]
    print(task["id"].removeprefix(sys.argv[1] + "-"), kinds.count("step"), kinds.count("file_written"))
PYTHON

# trial USE_MCP LEAST MOST: compares what crew.py says with what the gateway has, and counts its tasks there.
runs=0
trial() {
    runs=$((runs + 1))
    run="crew-$(date +%s)-$$-$runs"
    echo "USE_MCP=$1"
    HOME=$folder CREW_RUN=$run USE_MCP=$1 "$venv/bin/python" crew.py > "$folder/said" || fail "USE_MCP=$1 failed"
    cat "$folder/said"
    "$venv/bin/python" "$folder/done.py" "$run" > "$folder/done" || fail "the gateway does not show the run"
    sed -n "s/^$run-\([a-z]*\): gateway, \([0-9]*\) steps.*/\1 \2 1/p" "$folder/said" > "$folder/wanted"
    sort "$folder/wanted" > "$folder/a"
    sort "$folder/done" > "$folder/b"
    cmp -s "$folder/a" "$folder/b" || { diff "$folder/a" "$folder/b"; fail "the gateway has other tasks or steps"; }
    count=$(wc -l < "$folder/done")
    [ "$count" -ge "$2" ] && [ "$count" -le "$3" ] || fail "$count tasks used the gateway, and not $2 to $3"
}

trial true 6 6
(export MCP_GATEWAY_URL=http://127.0.0.1:9; HOME=$folder USE_MCP=false "$venv/bin/python" crew.py > "$folder/alone") \
    || fail "USE_MCP=false needs a gateway"
trial false 0 0
trial 50% 1 5
cut -d ' ' -f 1 "$folder/a" > "$folder/first"
trial 50 1 5
cut -d ' ' -f 1 "$folder/a" | cmp -s - "$folder/first" || fail "50 and 50% chose other tasks"
echo "as expected"
