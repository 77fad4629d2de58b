"""The official clients, unmodified, in each of their modes against a gateway with real servers behind it.

Starts the gateway given as the first argument on a free port and in a temporary directory, registers the
servers by REST, runs every client and prints a table. The second argument is the directory that `.ci/clients`
has filled. Exits with 1 when anything failed.
"""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import gateway

GATEWAY, CACHE = sys.argv[1], pathlib.Path(sys.argv[2])
HERE = pathlib.Path(__file__).parent
NODE = CACHE / "node_modules/.bin/node"
PYTHON = CACHE / "python/bin"
BIN = CACHE / "node_modules/.bin"
# Longer than any client of this list needs.
LIMIT = 120

CLIENTS = [
    ("Python `mcp` 2.3", "python", ["auto", "legacy", "2026-07-28"]),
    ("TypeScript `@modelcontextprotocol/client` 2.4", "client", ["legacy", "auto", "2026-07-28"]),
    ("TypeScript `@modelcontextprotocol/sdk` 1.32", "sdk", ["legacy"]),
    ("Inspector CLI 2.12", "inspector", ["legacy", "auto", "modern"]),
]
ENDPOINTS = ["/mcp", "/mcp/s/every", "/mcp/s/time", "/mcp/s/git", "/mcp/s/files", "`trunkline stdio`"]


def register(address, servers):
    for slug, command, arguments in servers:
        body = {"slug": slug, "name": slug, "transport": "stdio", "command": str(command), "args": arguments}
        request = urllib.request.Request(
            f"{address}/v1/mcp/servers", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            urllib.request.urlopen(request).read()
        except urllib.error.HTTPError as error:
            sys.exit(f"{slug} is not registered: {error.read().decode()}")


def steps(endpoint, mode, scratch):
    """What is tried at an endpoint: at /mcp with all servers, elsewhere with one under its own names."""
    repository, files = str(scratch / "repository"), str(scratch / "files")
    convert = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    calls = {
        "time": ("convert_time", convert, "21:00"),
        "git": ("git_status", {"repo_path": repository}, "new-file.txt"),
        "files": ("read_text_file", {"path": f"{files}/note.txt"}, "what is written here"),
        "every": ("echo", {"message": "hello there"}, "hello there"),
    }
    every_only = {
        "progress": ("progress", "trigger-long-running-operation", {"duration": 1, "steps": 4}, ""),
        "sampling": ("call", "trigger-sampling-request", {"prompt": "?", "maxTokens": 10}, "forty-two"),
        "elicitation": ("call", "trigger-elicitation-request", {}, "Ada"),
    }
    one = endpoint.removeprefix("/mcp/s/") if endpoint.startswith("/mcp/s/") else None
    slugs = [one] if one else list(calls)
    name = lambda slug, own: own if one else f"{slug}__{own}"
    revision = "2025-11-25" if mode == "legacy" else "2026-07-28"
    yield {"title": "revision", "do": "revision", "wants": revision}
    yield {"title": "list tools", "do": "tools", "wants": [name(slug, calls[slug][0]) for slug in slugs]}
    for slug in slugs:
        own, arguments, wants = calls[slug]
        yield {"title": f"call {own}", "do": "call", "name": name(slug, own), "arguments": arguments, "wants": wants}
    if "every" in slugs:
        yield {"title": "resources", "do": "resources"}
        yield {"title": "prompts", "do": "prompts", "name": name("every", "simple-prompt")}
        for title, (does, own, arguments, wants) in every_only.items():
            yield {"title": title, "do": does, "name": name("every", own), "arguments": arguments, "wants": wants}


def place(address, endpoint):
    if endpoint in ENDPOINTS[:-1]:
        return {"url": address + endpoint}
    return {"command": [GATEWAY, "stdio"], "env": {"PATH": os.environ["PATH"], "MCP_GATEWAY_URL": address}}


def run_program(kind, mode, address, endpoint, scratch):
    """A client of ours on an official library: one process for all steps."""
    wanted = list(steps(endpoint, mode, scratch))
    plan = {"sdk": kind, "mode": mode, "steps": wanted, **place(address, endpoint)}
    program = [PYTHON / "python", HERE / "client.py"] if kind == "python" else [NODE, CACHE / "client.mjs"]
    done = subprocess.run(program, input=json.dumps(plan), capture_output=True, text=True, timeout=LIMIT, cwd=scratch)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = [f"{one['step']}: {one['why']}" for one in said if not one["ok"]]
    if len(said) < len(wanted):
        failed.append(f"ended after {len(said)} of {len(wanted)} steps: {done.stderr.strip()[-600:]}")
    return len(said) - len(failed), failed


def run_inspector(_, mode, address, endpoint, scratch):
    """The Inspector's command line: one process for each step that it has a command for."""
    wanted = [one for one in steps(endpoint, mode, scratch) if one["title"] not in ("progress", "sampling", "elicitation")]
    passed, failed = 0, []
    for step in wanted:
        more = list(inspector_commands(step))
        while more:
            title, arguments, wants = more.pop(0)
            where = place(address, endpoint)
            target = ["--server-url", where["url"], "--transport", "http"] if "url" in where else where["command"]
            environment = {"PATH": os.environ["PATH"], "HOME": str(scratch / "inspector")}
            variables = [f"{key}={value}" for key, value in where.get("env", {}).items() if key != "PATH"]
            options = [option for variable in variables for option in ("-e", variable)]
            command = [NODE, BIN / "mcp-inspector", "--cli", *target, *options, "--protocol-era", mode,
                       "--format", "json", *arguments]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT, cwd=scratch)
            if done.returncode == 0 and wants in done.stdout:
                passed += 1
                if title == "list resources":
                    found = json.loads(done.stdout)
                    uri = found.get("result", found)["resources"][0]["uri"]
                    more.append(("read a resource", ["--method", "resources/read", "--uri", uri], "contents"))
            else:
                failed.append(f"{title}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
    return passed, failed


def inspector_commands(step):
    call = lambda name, arguments: [
        "--method", "tools/call", "--tool-name", name,
        *[part for key, value in arguments.items() for part in ("--tool-arg", f"{key}={value}")],
    ]
    match step["do"]:
        case "tools":
            yield step["title"], ["--method", "tools/list"], step["wants"][0]
        case "call":
            yield step["title"], call(step["name"], step["arguments"]), step["wants"]
        case "resources":
            yield "list resources", ["--method", "resources/list"], "architecture.md"
        case "prompts":
            yield "list prompts", ["--method", "prompts/list"], step["name"]
            yield "get a prompt", ["--method", "prompts/get", "--prompt-name", step["name"]], "messages"


def main():
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="trunkline-clients-"))
    for directory in ("files", "repository", "inspector"):
        (scratch / directory).mkdir()
    (scratch / "files/note.txt").write_text("what is written here")
    subprocess.run(["git", "init", "--quiet", "--initial-branch=trunk", scratch / "repository"], check=True)
    (scratch / "repository/new-file.txt").write_text("x")
    # Modules are found beside the file that wants them.
    shutil.copy(HERE / "client.mjs", CACHE / "client.mjs")
    process, address = gateway.start(GATEWAY, scratch, RATE_LIMIT_MAX_REQUESTS="0")
    failures = 0
    try:
        register(address, [
            ("time", PYTHON / "mcp-server-time", ["--local-timezone", "UTC"]),
            ("git", PYTHON / "mcp-server-git", ["--repository", str(scratch / "repository")]),
            ("every", BIN / "mcp-server-everything", ["stdio"]),
            ("files", BIN / "mcp-server-filesystem", [str(scratch / "files")]),
        ])
        trials = [(client, kind, mode, endpoint)
                  for client, kind, modes in CLIENTS for mode in modes for endpoint in ENDPOINTS]

        def attempt(trial):
            _, kind, mode, endpoint = trial
            run = run_inspector if kind == "inspector" else run_program
            try:
                return run(kind, mode, address, endpoint, scratch)
            except subprocess.TimeoutExpired:
                return 0, [f"not done after {LIMIT} s"]

        with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("CLIENTS_AT_ONCE", "2"))) as pool:
            outcomes = list(pool.map(attempt, trials))
        cells = {(client, mode, endpoint): ("ok" if not failed else "**failed**")
                 for (client, _, mode, endpoint), (_, failed) in zip(trials, outcomes, strict=True)}
        print("| Client | Mode | " + " | ".join(ENDPOINTS) + " |")
        print("| --- | --- |" + " --- |" * len(ENDPOINTS))
        for client, _, modes in CLIENTS:
            for mode in modes:
                print(f"| {client} | {mode} | " + " | ".join(cells[client, mode, one] for one in ENDPOINTS) + " |")
        print()
        for (client, _, mode, endpoint), (_, failed) in zip(trials, outcomes, strict=True):
            for why in failed:
                failures += 1
                print(f"failed: {client}, {mode}, {endpoint}: {why}")
        print(f"{sum(passed for passed, _ in outcomes)} steps passed, {failures} failed")
    finally:
        gateway.stop(process)
        if failures and os.environ.get("CLIENTS_KEEP"):
            print(f"the gateway's log is {scratch / 'log'}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(1 if failures else 0)


main()
