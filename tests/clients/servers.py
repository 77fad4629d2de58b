"""Real servers of a table, each with its pinned packages in a directory of its own, and one's own start over stdio.

The table has tab-separated columns with a heading: `slug`, `command` (`npx` or `uvx`), `args_template` (what these
would be given, with `{dir}` and other values in braces) and `env_passed` (names of variables, or `-`). Neither is
run: packages are installed by npm and uv, and the program itself is started.
"""

import csv
import dataclasses
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

import installed

# For the answers of one server, in seconds.
START_LIMIT = 60
ABOUT = {"name": "trial", "version": "1.0.0"}
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientInfo": ABOUT,
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclasses.dataclass(frozen=True)
class Server:
    slug: str
    python: bool
    # What is installed, the server itself first.
    packages: tuple
    # Name of the program, if the package's own name is not it.
    program: str | None
    # Its arguments, with values in braces.
    arguments: tuple
    # Names of the variables that it reads.
    variables: tuple

    def home(self, cache):
        return cache / "servers" / self.slug


def read(table):
    with pathlib.Path(table).open() as lines:
        return [of_row(row) for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]


def of_row(row):
    """A server of a row, whose command line is read as npx or uvx would."""
    words, packages, own = shlex.split(row["args_template"]), [], None
    while words and words[0].startswith("-"):
        option = words.pop(0)
        match option:
            case "-y":
                pass
            case "-p" | "--package" | "--with":
                packages.append(words.pop(0))
            case "--from":
                own = words.pop(0)
            case _:
                sys.exit(f"{row['slug']}: the option {option} is not known")
    python, program = row["command"] == "uvx", words.pop(0)
    if own:
        packages.insert(0, own)
    elif python or not packages:
        packages.insert(0, program)
        program = re.split("[=<>]", program)[0] if python else None
    variables = re.findall("[A-Z][A-Z0-9_]+", row["env_passed"])
    return Server(row["slug"], python, tuple(packages), program, tuple(words), tuple(variables))


def install(cache, server):
    """Makes the directory of a server, unless it is there with these very packages."""
    home = server.home(cache)
    made, wanted = home / "made-of", "\n".join(server.packages)
    if made.exists() and made.read_text() == wanted:
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if server.python:
        uv = cache / "uv/bin/uv"
        installed.run(uv, "venv", "--quiet", "--python", sys.executable, home)
        installed.run(uv, "pip", "install", "--quiet", "--python", home / "bin/python", *server.packages)
    else:
        installed.npm(cache, home, *server.packages)
    made.write_text(wanted)


def command(cache, server, scratch):
    """The command line of the installed program; `{dir}` is a directory, other values lead nowhere."""
    home = server.home(cache)
    if server.python:
        first = [home / "bin" / server.program]
    else:
        package = server.packages[0].rsplit("@", 1)[0]
        manifest = home / "node_modules" / package / "package.json"
        programs = json.loads(manifest.read_text())["bin"]
        if isinstance(programs, dict):
            wanted = server.program or package.rsplit("/", 1)[-1]
            programs = programs[wanted] if wanted in programs else next(iter(programs.values()))
        first = [installed.node_of(cache), manifest.parent / programs]
    values = {"dir": str(scratch), "db-file": str(scratch / "trial.db"),
              "postgres-url": "postgres://nobody@127.0.0.1:9/none", "redis-url": "redis://127.0.0.1:9/0"}
    fill = lambda found: values.get(found[1], "trial")
    return [str(part) for part in first] + [re.sub(r"\{([^}]+)\}", fill, word) for word in server.arguments]


def environment(cache, server, scratch):
    """Variables of the program: values of the right form that open nothing."""
    passed = {name: value_for(name, scratch) for name in server.variables}
    path = f"{installed.node_of(cache).resolve().parent}:{server.home(cache) / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(scratch), **passed}


def value_for(name, scratch):
    for pattern, value in [
        ("^NEO4J_URI$", "bolt://127.0.0.1:9"),
        ("(URL|URI|ADDR)$", "http://127.0.0.1:9"), ("HOST$", "127.0.0.1"), ("PORT$", "9"), ("(HOME|DIR)$", str(scratch)),
        ("(PATH)$", str(scratch / name.lower())), ("SECURE$", "false"), ("COMMANDS$", "ls"), ("PARTITION$", "aws"),
    ]:
        if re.search(pattern, name):
            return value
    return "trial"


def own_start(arguments, variables, scratch):
    """Seconds from the spawn of a server to its answer to `tools/list`, and its tools, as a legacy client reads them."""
    began = time.monotonic()
    process = subprocess.Popen(arguments, env=variables, cwd=scratch, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        requests = [
            {"method": "initialize",
             "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": ABOUT}},
            {"method": "tools/list", "params": {}},
        ]
        send(process, {**requests[0], "id": 0})
        answer(process, 0, began)
        send(process, {"method": "notifications/initialized"})
        send(process, {**requests[1], "id": 1})
        tools, more = [], 1
        while True:
            result = answer(process, more, began)
            tools += result["tools"]
            if not result.get("nextCursor"):
                return time.monotonic() - began, tools
            more += 1
            send(process, {"method": "tools/list", "params": {"cursor": result["nextCursor"]}, "id": more})
    finally:
        end(process)


def send(process, message):
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()


def answer(process, wanted, began):
    """The result with this id; requests of the server are refused meanwhile."""
    for line in process.stdout:
        if time.monotonic() - began > START_LIMIT:
            break
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if not isinstance(message, dict):
            continue
        if "method" in message and "id" in message:
            send(process, {"id": message["id"], "error": {"code": -32601, "message": "not offered"}})
        elif message.get("id") == wanted:
            if "error" in message:
                raise RuntimeError(f"the server answers {message['error']}")
            return message["result"]
    raise RuntimeError(f"no answer, and the process ended with {process.poll()}")


def end(process):
    process.stdin.close()
    for signal in (15, 9):
        try:
            process.wait(2 if signal == 15 else 1)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal)
        except ProcessLookupError:
            return
    process.wait()
