"""Lists of all servers after a restart of the gateway, with real servers that do not run.

Arguments: the gateway's program, a cache directory and a table of servers (see `servers`). Prints a table for each
step. Exits with 1 when a list is not complete, a child was started for one or an official client refuses it, but
never because of a time: those depend on the machine.
"""

import dataclasses
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import gateway
import installed
import servers
from definitions import raw

GATEWAY, CACHE, TABLE = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
HERE = pathlib.Path(__file__).parent
# Until all servers are listed the first time, in seconds.
FIRST_LIMIT = 300
# Starts of one server for a median.
STARTS = 3
RESTARTS = int(os.environ.get("CATALOG_RESTARTS", "3"))
TYPESCRIPT = ("@modelcontextprotocol/client@2.4", "@modelcontextprotocol/sdk@1.32")
PYTHON = ("mcp==2.3.0",)
FASTMCP = installed.Framework("FastMCP", "fastmcp_client.py", ("fastmcp==4.1.6",))
# Client, kind of `client.mjs` or `client.py`, mode.
OFFICIAL = [
    ("TypeScript `sdk` 1.32", "sdk", "legacy"),
    ("TypeScript `client` 2.4", "client", "legacy"),
    ("TypeScript `client` 2.4", "client", "2026-07-28"),
    ("Python `mcp` 2.3", "python", "legacy"),
    ("Python `mcp` 2.3", "python", "2026-07-28"),
]

failed = []


def fact(holds, text):
    """`ok`, or the text, which then makes the run fail."""
    if not holds:
        failed.append(text)
    return "ok" if holds else f"**{text}**"


def table(*heading):
    print(f"\n| {' | '.join(heading)} |\n| {' | '.join('---' for _ in heading)} |", flush=True)


def row(*cells):
    print("| " + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |", flush=True)


class Gateway:
    """A gateway that can be started again on the same data."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.start()
        self.key = (scratch / "data/operator.key").read_text().strip()

    def start(self):
        # CHILD_MAX is for tables with more servers than the default allows.
        settings = {"RATE_LIMIT_MAX_REQUESTS": "0", "CHILD_MAX": "200"}
        passed = {name: value for name, value in os.environ.items() if name == "LOG_LEVEL"}
        began = time.monotonic()
        self.process, self.address = gateway.start(GATEWAY, self.scratch, **settings, **passed)
        self.came_up = time.monotonic() - began

    def kill(self):
        self.process.kill()
        self.process.wait()

    def rest(self, method, path, body=None):
        headers = {"Content-Type": "application/json", "X-MCP-Key": self.key}
        text = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/v1/mcp/{path}", text, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=servers.START_LIMIT) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.read().decode()}")

    def register(self, name, command, environment):
        body = {"slug": name, "name": name, "transport": "stdio", "command": command[0], "args": command[1:],
                "env": environment}
        return self.rest("POST", "servers", body)["id"]

    def page(self, connection, endpoint, cursor):
        """One page of `tools/list` as a modern client requests it: the text of the answer."""
        params = {"_meta": servers.MODERN} | ({"cursor": cursor} if cursor else {})
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                   "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list", "X-MCP-Key": self.key}
        connection.request("POST", endpoint, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.headers["Content-Type"].startswith("text/event-stream"):
            # The answer comes after notifications.
            text = [line[6:] for line in text.splitlines() if line.startswith("data: {")][-1]
        return text

    def tools(self, endpoint="/mcp"):
        """All pages of `tools/list`."""
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=servers.START_LIMIT)
        found, cursor = List(), None
        while True:
            began = time.monotonic()
            text = self.page(connection, endpoint, cursor)
            found.times.append(time.monotonic() - began)
            answer = json.loads(text)
            if "result" not in answer:
                found.meta = {"trunkline/unavailable": [answer["error"]]}
                return found
            result = answer["result"]
            found.texts.append(raw(text, "tools"))
            found.names += [tool["name"] for tool in result["tools"]]
            found.meta |= result.get("_meta", {})
            cursor = result.get("nextCursor")
            if not cursor:
                connection.close()
                return found

    def children(self):
        """Number of processes below the gateway."""
        parents = {}
        for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
        below, found = {self.process.pid}, -1
        while found != len(below):
            found = len(below)
            below |= {one for one, parent in parents.items() if parent in below}
        return len(below) - 1

    def memory(self):
        """Resident memory of the gateway in MB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@dataclasses.dataclass
class List:
    """A whole list: what its pages hold, and the time of each request in seconds, the connection included."""

    names: list = dataclasses.field(default_factory=list)
    texts: list = dataclasses.field(default_factory=list)
    meta: dict = dataclasses.field(default_factory=dict)
    times: list = dataclasses.field(default_factory=list)

    def named(self, kind):
        return [one.get("server", one) for one in self.meta.get(f"trunkline/{kind}", [])]

    @property
    def milliseconds(self):
        return sum(self.times) * 1000

    @property
    def kilobytes(self):
        return sum(len(text) for text in self.texts) / 1000


@dataclasses.dataclass
class Trial:
    """A server, how it is started, and what it does without a gateway."""

    server: servers.Server
    command: list
    environment: dict
    directory: pathlib.Path
    starts: list = dataclasses.field(default_factory=list)
    tools: list = dataclasses.field(default_factory=list)

    @property
    def slug(self):
        return self.server.slug

    def own_start(self):
        seconds, self.tools = servers.own_start(self.command, self.environment, self.directory)
        return seconds


def prepare(scratch):
    """Installs all servers, and starts each by itself."""
    installed.tools_of_installation(CACHE)
    trials = []
    table("Server", "Tools", "Own start, ms")
    for server in servers.read(TABLE):
        directory = scratch / "files" / server.slug
        directory.mkdir(parents=True)
        try:
            servers.install(CACHE, server)
            trial = Trial(server, servers.command(CACHE, server, directory),
                          servers.environment(CACHE, server, directory), directory)
            trial.own_start()
            trial.starts = [trial.own_start() for _ in range(STARTS)]
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            row(server.slug, "-", fact(False, f"{server.slug} does not list its tools: {error}"))
            continue
        row(server.slug, len(trial.tools), statistics.median(trial.starts) * 1000)
        trials.append(trial)
    return trials


def register_all(running, trials):
    """Registers all servers and lists until none is missing; the complete list."""
    ids = {trial.slug: running.register(trial.slug, trial.command, trial.environment) for trial in trials}
    began, lists = time.monotonic(), []
    while not lists or (lists[-1].named("unavailable") and time.monotonic() - began < FIRST_LIMIT):
        lists.append(running.tools())
    took, last = time.monotonic() - began, lists[-1]
    left_out = last.meta.get("trunkline/leftOut", [])
    expected = {f"{trial.slug}__{tool['name']}" for trial in trials for tool in trial.tools}
    missing = expected - set(last.names) - {f"{one['server']}__{one['name']}" for one in left_out}
    missing = last.meta.get("trunkline/unavailable") or sorted(missing)
    table("First lists", "Complete after, ms", "Lists until then", "Missing in the first", "Tools", "KB", "Children",
          "Gateway MB", "Verdict")
    row(len(trials), took * 1000, len(lists), len(lists[0].named("unavailable")), len(last.names), last.kilobytes,
        running.children(), running.memory(), fact(not missing, f"missing: {missing}"))
    print(f"\n{len(expected)} tools are listed by the servers themselves; {len(left_out)} are left out.")
    return ids, last


def list_again(running, name, trials, complete):
    """The first list of a gateway that was started anew: the same, and without any child."""
    found = running.tools()
    children = running.children()
    again = running.tools()
    children = max(children, running.children())
    stored = sorted({trial.slug for trial in trials} - set(found.named("stored")))
    verdicts = [
        fact(found.texts == complete.texts, f"{name}: the list is another one"),
        fact(not stored, f"{name}: not named as stored: {stored}"),
        fact(not found.named("unavailable"), f"{name}: missing: {found.named('unavailable')}"),
        fact(children == 0, f"{name}: {children} children"),
    ]
    row(name, running.came_up * 1000, found.times[0] * 1000, found.milliseconds, again.milliseconds, len(found.names),
        children, running.memory(), ", ".join(sorted(set(verdicts))))


def restart(running, trials, complete):
    """Stops the gateway, politely and by SIGKILL, and lists after each start."""
    table("Start after", "Up after, ms", "First page, ms", "Whole list, ms", "Again, ms", "Tools", "Children",
          "Gateway MB", "Verdict")
    for number in range(RESTARTS * 2):
        name = "SIGTERM" if number < RESTARTS else "SIGKILL"
        gateway.stop(running.process) if name == "SIGTERM" else running.kill()
        running.start()
        list_again(running, name, trials, complete)


def judge(running, names, scratch, first=False):
    """Each official client lists all tools at `/mcp`. The first time, servers start for its capabilities."""
    home, python = CACHE / "clients", CACHE / "clients-python"
    if not (home / "node_modules").exists():
        installed.npm(CACHE, home, *TYPESCRIPT)
    if not python.exists():
        installed.run(CACHE / "uv/bin/uv", "venv", "--quiet", "--python", sys.executable, python)
        installed.run(CACHE / "uv/bin/uv", "pip", "install", "--quiet", "--python", python / "bin/python", *PYTHON)
    shutil.copy(HERE / "client.mjs", home / "client.mjs")
    installed.install(CACHE, FASTMCP)
    table("Client", "Mode", "ms", "Children afterwards", "Verdict")
    for client, kind, mode in OFFICIAL:
        step = {"title": "list tools", "do": "tools", "wants": names}
        # A client without a header of its own is trusted in loopback.
        plan = {"sdk": kind, "mode": mode, "steps": [step], "url": f"{running.address}/mcp"}
        program = [python / "bin/python", HERE / "client.py"] if kind == "python" else \
            [installed.node_of(CACHE), home / "client.mjs"]
        began = time.monotonic()
        done = subprocess.run(program, input=json.dumps(plan), capture_output=True, text=True, timeout=120, cwd=scratch)
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        judged(running, client, mode, began, said[0].get("why") if said else done.stderr.strip()[-400:], first)
    began = time.monotonic()
    (said,) = installed.trials(CACHE, FASTMCP, [f"{running.address}/mcp"], running.key, "calculator__add")
    missing = set(names) - set(said.get("tools", []))
    why = said.get("error") or (f"not listed: {missing}" if missing else None)
    judged(running, "FastMCP 4.1", "auto", began, why, first)


def judged(running, client, mode, began, why, first):
    took, children = time.monotonic() - began, running.children()
    listed = fact(not why, f"{client}, {mode}: {why}")
    row(client, mode, took * 1000, children, listed if first or children == 0 else fact(False, f"{client}: {children} children"))


def definitions(running, ids):
    """What the gateway says of the definitions of each server: all that are left out, and each warning once."""
    table("Server", "List", "Definitions", "The first", "Warning, or why it is left out", "Detail of the first")
    for slug, server in ids.items():
        about = running.rest("GET", f"servers/{server}").get("definitions", {})
        for one in about.get("leftOut", []):
            row(slug, one["list"], 1, one["name"], "left out", one["reason"])
        kinds = {}
        for one in about.get("warnings", []):
            kinds.setdefault((one["list"], one["code"]), []).append(one)
        for (kind, code), those in kinds.items():
            row(slug, kind, len(those), those[0]["name"], code, those[0]["detail"].replace("|", "\\|"))


def first_uses(running, trials, ids):
    """The first list of a server that the gateway has never seen, in turns with the server's own start."""
    table("Server", "Own start, ms", "First list through the gateway, ms", "Ratio")
    ratios = []
    for trial in trials:
        own, through = [], []
        for _ in range(STARTS):
            own.append(trial.own_start())
            running.rest("DELETE", f"servers/{ids[trial.slug]}")
            ids[trial.slug] = running.register(trial.slug, trial.command, trial.environment)
            found = running.tools(f"/mcp/s/{trial.slug}")
            through.append(found.milliseconds)
            fact(len(found.names) >= len(trial.tools) and not found.named("unavailable"),
                 f"{trial.slug}: {len(found.names)} of {len(trial.tools)} at the first use: {found.named('unavailable')}")
            running.rest("POST", f"servers/{ids[trial.slug]}/stop")
        own, through = statistics.median(own) * 1000, statistics.median(through)
        ratios.append(through / own)
        row(trial.slug, own, through, f"{through / own:.2f}")
    row("median of all", "", "", f"{statistics.median(ratios):.2f}")
    row("worst", "", "", f"{max(ratios):.2f}")


def main():
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="trunkline-catalog-"))
    running = None
    print(f"Load average before: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores.")
    try:
        trials = prepare(scratch)
        running = Gateway(scratch)
        ids, complete = register_all(running, trials)
        judge(running, complete.names, scratch, first=True)
        restart(running, trials, complete)
        judge(running, complete.names, scratch)
        definitions(running, ids)
        first_uses(running, trials, ids)
    finally:
        if running:
            gateway.stop(running.process)
        if os.environ.get("CLIENTS_KEEP"):
            print(f"the gateway's log is {scratch / 'log'}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    print(f"\nLoad average after: {os.getloadavg()[0]:.1f}.")
    for text in failed:
        print(f"failed: {text}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
