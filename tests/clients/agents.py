"""Coding agents against a gateway that trusts no connection, with a good key, a wrong one and none.

Starts the gateway given as the first argument on a free port and in a temporary directory, writes each agent's
configuration as the README shows it into a home directory of its own, and prints what the agent says about
the server. Nothing here needs a model account. Exits with 1 when an agent does not connect with a good key.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import gateway

GATEWAY = sys.argv[1]
# For one command of an agent, in seconds; the slowest starts in about 15.
LIMIT = 60
WRONG = "mcp_live_" + "0" * 43


def headers(key):
    return {"X-MCP-Key": key} if key else {}


def claude(home, url, key):
    server = {"type": "http", "url": url, "headers": headers(key)}
    (home / ".claude.json").write_text(json.dumps({"mcpServers": {"trunkline": server}}))
    return [["claude", "mcp", "list"], ["claude", "mcp", "get", "trunkline"], ["claude", "mcp", "login", "trunkline"]]


def codex(home, url, key):
    (home / ".codex").mkdir()
    lines = ["[mcp_servers.trunkline]", f'url = "{url}"']
    lines += [f'http_headers = {{ "X-MCP-Key" = "{key}" }}'] if key else []
    (home / ".codex/config.toml").write_text("\n".join(lines) + "\n")
    # `codex mcp list` connects to nothing; its server for editors does, and tells what came of it.
    return [CODEX_STATUS, ["codex", "mcp", "login", "trunkline"]]


def gemini(home, url, key):
    (home / ".gemini").mkdir()
    server = {"httpUrl": url, "headers": headers(key)}
    settings = {"mcpServers": {"trunkline": server}, "security": {"folderTrust": {"enabled": False}}}
    (home / ".gemini/settings.json").write_text(json.dumps(settings))
    return [["gemini", "mcp", "list"]]


def opencode(home, url, key):
    (home / ".config/opencode").mkdir(parents=True)
    server = {"type": "remote", "url": url, "headers": headers(key)}
    (home / ".config/opencode/opencode.json").write_text(json.dumps({"mcp": {"trunkline": server}}))
    return [["opencode", "mcp", "list"], ["opencode", "mcp", "debug", "trunkline"], ["opencode", "mcp", "auth", "trunkline"]]


CODEX_STATUS = ["codex", "app-server"]
CODEX_ASKS = [
    {"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "trial", "version": "1"}}},
    {"method": "initialized"},
    {"id": 2, "method": "mcpServerStatus/list", "params": {}},
]

AGENTS = [claude, codex, gemini, opencode]


def codex_status(environment, home):
    """What codex says of its servers: names of the tools, or the error."""
    command = ["timeout", str(LIMIT), *CODEX_STATUS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, env=environment, cwd=home, text=True, **pipes)
    process.stdin.write("".join(json.dumps(message) + "\n" for message in CODEX_ASKS))
    process.stdin.flush()
    said = []
    for line in process.stdout:
        if line.startswith('{"id":2'):
            server = json.loads(line)["result"]["data"][0]
            # Names of types in brackets say nothing.
            error = re.sub(r" \[\S+\]", "", server.get("toolsError") or "")
            said.append(error or f"tools: {', '.join(server['tools'])}")
            break
        if "ERROR rmcp" in plain(line):
            said.append(line.strip())
    process.terminate()
    process.wait(20)
    return "\n".join(said)


def run(command, home):
    """What a command prints, without colours and cursor movements."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "TERM": "xterm", "NO_COLOR": "1", "BROWSER": "false",
        "DISABLE_AUTOUPDATER": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1",
    }
    if command == CODEX_STATUS:
        return plain(codex_status(environment, home))
    # Some say nothing without a terminal.
    line = " ".join(command)
    wrapped = ["timeout", "--kill-after=2", str(LIMIT), "script", "--quiet", "--return", "--command", line, "/dev/null"]
    done = subprocess.run(wrapped, env=environment, cwd=home, capture_output=True, stdin=subprocess.DEVNULL)
    return plain(done.stdout.decode(errors="replace"))


def plain(text):
    # Claude Code moves the cursor instead of writing blanks.
    text = re.sub(r"\x1b\[\d*C", " ", text)
    return re.sub(r"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|\][^\x07]*\x07|[()][AB0]|[78])|\r|[\x00-\x08]", "", text).strip()


def paths(log, since):
    """What was asked of the gateway since then, and with which status."""
    lines = [json.loads(line) for line in log.read_text().splitlines()[since:] if '"request"' in line]
    asked = [f"{line.get('method')} {line.get('path')} {line.get('statusCode')}" for line in lines]
    return ", ".join(dict.fromkeys(asked))


def main():
    chosen = sys.argv[2:]
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        process, address = gateway.start(GATEWAY, scratch, LOOPBACK_ROLE="none")
        missing = []
        try:
            good = (scratch / "data/operator.key").read_text().strip()
            for agent in AGENTS:
                name = agent.__name__
                if chosen and name not in chosen:
                    continue
                version = run([name, "--version"], scratch).splitlines()
                print(f"\n# {name} {version[-1] if version else '?'}")
                for kind, key in [("good key", good), ("wrong key", WRONG), ("no key", None)]:
                    home = scratch / f"{name}-{kind.replace(' ', '-')}"
                    home.mkdir()
                    for command in agent(home, f"{address}/mcp", key):
                        before = len((scratch / "log").read_text().splitlines())
                        said = run(command, home).replace(good, "mcp_live_…").replace(WRONG, "mcp_live_0…")
                        print(f"\n## {kind}: {' '.join(command)}\n{said}")
                        print(f"(asked: {paths(scratch / 'log', before) or 'nothing'})", flush=True)
                        connects = "POST /mcp 200" in paths(scratch / "log", before)
                        if kind == "good key" and connects:
                            missing = [one for one in missing if one != name]
                            break
                        missing += [name] if kind == "good key" and name not in missing else []
        finally:
            gateway.stop(process)
    if missing:
        sys.exit(f"with a good key did not connect: {', '.join(missing)}")


main()
