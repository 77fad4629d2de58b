"""Curated entries of the marketplace: the format of each, its package installed, started and called over stdio.

Arguments: a cache directory, and names of entries, or all without any. The entries are the `server.json` files of
`api/marketplace`; `curated.toml` beside them says what is called. Prints a table. Exits with 1 when an entry breaks
the format, its package cannot be installed, or a call fails that is said to have been tried.
"""

import asyncio
import contextlib
import functools
import http.server
import json
import logging
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

import installed
import servers

ENTRIES = pathlib.Path(__file__).parents[2] / "api/marketplace"
SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
# Registry types, and the program that each names in `runtimeHint`.
RUNTIMES = {"npm": "npx", "pypi": "uvx"}
FORMATS = {"string", "number", "boolean", "filepath"}
# To start and list the tools, and for the call, in seconds.
START_LIMIT, CALL_LIMIT = 90, 90
# How this machine reaches the registries: mcp-server-fetch runs `npm install` before its first page.
PASSED = ("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "npm_config_registry")
# Files of the directory in which each server runs. It is a repository with one commit as well.
FILES = {
    "hello.txt": "Hello from a file.\n",
    "page.html": "<title>Trial page</title><h1>Hello from loopback</h1><p>A paragraph.</p>\n",
    "sample.js": "const unused = 1;\n",
    "eslint.config.mjs": 'export default [{ rules: { "no-unused-vars": "error" } }];\n',
}


def complaints(entry, about):
    """Breaches of the format, and of what the entries of this set are to be."""
    def wants(holds, text):
        return [] if holds else [text]

    def texts(value):
        if isinstance(value, dict):
            return [text for one in value.values() for text in texts(one)]
        return [text for one in value for text in texts(one)] if isinstance(value, list) else [value]

    found = wants(entry.get("$schema") == SCHEMA, "another $schema")
    found += wants(re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"]) and len(entry["name"]) <= 200, "name")
    found += wants(1 <= len(entry["description"]) <= 100, "description of more than 100 characters")
    found += wants(1 <= len(entry["title"]) <= 100, "title")
    found += wants({"url", "source"} <= entry["repository"].keys(), "repository")
    found += wants(entry.get("packages") or entry.get("remotes"), "neither packages nor remotes")
    found += wants(all(isinstance(text, (str, bool)) for text in texts(entry)), "a value that is no text")
    for package in entry.get("packages", []):
        found += wants(RUNTIMES.get(package["registryType"]) == package["runtimeHint"], "registryType or runtimeHint")
        found += wants(re.fullmatch(r"\d+(\.\d+)+([a-z.-]+\d+)?", package["version"]), "a version that is not pinned")
        found += wants(package["version"] == entry["version"], "two versions")
        found += wants(package["transport"] == {"type": "stdio"}, "transport of a package")
        for one in package.get("packageArguments", []):
            named = "name" if one["type"] == "named" else "value" if "value" in one else "valueHint"
            found += wants(one["type"] in ("named", "positional") and one.get(named), "an argument without a name")
    for one in inputs(entry):
        found += wants(one.get("description"), f"no description: {one}")
        found += wants(one.get("format", "string") in FORMATS, f"format: {one}")
        found += wants(not one.get("choices") or one.get("default", one["choices"][0]) in one["choices"], f"default: {one}")
    for remote in entry.get("remotes", []):
        found += wants(remote["type"] == "streamable-http" and remote["url"].startswith("https://"), "remote")
    found += wants(about.get("category") and about.get("tags"), "no category or no tags")
    found += wants(("tried" in about) != ("not_tried" in about), "neither tried nor not_tried, or both")
    found += wants("tried" not in about or "call" in about, "tried without a call")
    return found


def inputs(entry):
    """Everything of an entry that someone may be asked for."""
    lists = [package.get(kind, []) for package in entry.get("packages", [])
             for kind in ("packageArguments", "environmentVariables")]
    return sum(lists + [remote.get("headers", []) for remote in entry.get("remotes", [])], [])


def command_line(package, given):
    """The arguments of a package: what is fixed, given, or else the default."""
    words = []
    for one in package.get("packageArguments", []):
        name = one.get("name") or one.get("valueHint")
        value = one.get("value", given.get(name, one.get("default")))
        if value is None:
            if one.get("isRequired"):
                raise RuntimeError(f"no value for {name}")
            continue
        words.append(f"{name}={value}" if one["type"] == "named" else value)
    return words


def variables(package, given):
    found = {}
    for one in package.get("environmentVariables", []):
        value = one.get("value", given.get(one["name"], one.get("default")))
        if value is not None:
            found[one["name"]] = value
        elif one.get("isRequired"):
            raise RuntimeError(f"no value for {one['name']}")
    return found


class Surroundings:
    """What calls need besides a server: a page in loopback, a Redis, a browser; each is started when it is asked for."""

    def __init__(self, scratch):
        self.scratch, self.ends = scratch, []

    @functools.cached_property
    def page(self):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

        serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=self.files("page")))
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        self.ends.append(serving.shutdown)
        return f"http://127.0.0.1:{serving.server_port}/page.html"

    @functools.cached_property
    def redis(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = subprocess.Popen([program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
                                   cwd=self.files("redis"), stdout=subprocess.DEVNULL)
        self.ends.append(process.terminate)
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return f"redis://127.0.0.1:{port}/0"
            time.sleep(0.05)
        raise RuntimeError("redis-server does not listen")

    @functools.cached_property
    def chromium(self):
        return program("chromium", "chromium-browser", "google-chrome", "chrome")

    def files(self, name):
        """The directory of one server."""
        made = self.scratch / name
        if not made.exists():
            made.mkdir()
            for file, text in FILES.items():
                (made / file).write_text(text)
            git = ["git", "-C", made, "-c", "user.name=Trial", "-c", "user.email=trial@example.com"]
            for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "A first commit"]):
                subprocess.run([*git, *words], check=True, timeout=60)
        return made

    def fill(self, value, directory):
        """The value with `{dir}` and the other names in braces replaced, in depth."""
        if isinstance(value, dict):
            return {name: self.fill(one, directory) for name, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one, directory) for one in value]
        if not isinstance(value, str):
            return value
        known = {"dir": lambda: directory, "page": lambda: self.page, "redis": lambda: self.redis,
                 "chromium": lambda: self.chromium}
        return re.sub(r"\{(dir|page|redis|chromium)\}", lambda found: str(known[found[1]]()), value)

    def end(self):
        for end in self.ends:
            end()


def program(*names):
    for name in names:
        if found := shutil.which(name):
            return found
    raise RuntimeError(f"{names[0]} is not on the PATH")


def started_by(cache, name, package):
    """The installed program, as npx or uvx would choose it without being given a name."""
    python = package["registryType"] == "pypi"
    own = package["identifier"]
    pinned = f"{own}=={package['version']}" if python else f"{own}@{package['version']}"
    server = servers.Server(name, python, (pinned,), own if python else None, (), ())
    servers.install(cache, server)
    if not python:
        manifest = json.loads((server.home(cache) / "node_modules" / own / "package.json").read_text())
        programs = manifest["bin"] if isinstance(manifest["bin"], dict) else {own: manifest["bin"]}
        if len(set(programs.values())) > 1 and own.rsplit("/", 1)[-1] not in programs:
            raise RuntimeError(f"npx cannot choose between {sorted(programs)}")
    elif not (server.home(cache) / "bin" / own).exists():
        raise RuntimeError(f"no program of the package's name, which uvx would start: {own}")
    path = [installed.node_of(cache).resolve().parent, pathlib.Path(sys.executable).parent, os.environ["PATH"]]
    return servers.command(cache, server, cache), ":".join(map(str, path))


def own_name(cache, name, package):
    """The name of the entry that the installed package itself declares, or nothing."""
    home, own = cache / "servers" / name, package["identifier"]
    if package["registryType"] == "npm":
        return json.loads((home / "node_modules" / own / "package.json").read_text()).get("mcpName")
    (about,) = home.glob(f"lib/python3*/site-packages/{re.sub('[-.]', '_', own)}-{package['version']}.dist-info/METADATA")
    declared = re.search(r"mcp-name:\s*(\S+)", about.read_text())
    return declared and declared[1]


async def trial(command, environment, directory, call):
    """Revision, number of tools, and the text of the call's answer, if there is a call."""
    with (directory / "stderr.log").open("w") as log:
        place = stdio_client(StdioServerParameters(command=command[0], args=command[1:], env=environment, cwd=directory),
                             errlog=log)
        async with Client(place, mode="legacy") as client:
            tools = await asyncio.wait_for(tools_of(client), START_LIMIT)
            if not call:
                return client.protocol_version, len(tools), None
            if call["tool"] not in tools:
                raise RuntimeError(f"no tool {call['tool']} in {sorted(tools)}")
            result = await asyncio.wait_for(client.call_tool(call["tool"], call["arguments"]), CALL_LIMIT)
            text = "\n".join(getattr(one, "text", one.type) for one in result.content)
            if result.is_error:
                raise RuntimeError(f"the call fails: {text}")
            if call["expects"] not in text:
                raise RuntimeError(f"{call['expects']!r} is not in the answer: {text}")
            return client.protocol_version, len(tools), text


async def tools_of(client):
    found, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += [tool.name for tool in page.tools]
        cursor = page.next_cursor
        if not cursor:
            return found


def cause(error):
    """The first error inside a group, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def row(*cells):
    print("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |", flush=True)


def tried(cache, around, name, entry, about):
    """Cells of the table for one entry, and why it fails."""
    packages = entry.get("packages", [])
    if not packages:
        return (entry["remotes"][0]["url"], "-", "-", "-"), None
    package = packages[0]
    shown = f"{package['identifier']} {package['version']}"
    try:
        command, path = started_by(cache, name, package)
        if (declared := own_name(cache, name, package) or entry["name"]) != entry["name"]:
            raise RuntimeError(f"the package is named {declared}, the entry {entry['name']}")
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return (shown, "-", "-", "-"), f"its package: {cause(error)}"
    directory = around.files(name)
    call = about.get("call") if "tried" in about else None
    try:
        given = around.fill(about.get("inputs", {}), directory)
        words = command_line(package, given) + about.get("extra_arguments", [])
        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        environment = {**passed, "PATH": path, "HOME": str(directory), **variables(package, given)}
        limit = START_LIMIT + CALL_LIMIT + 30
        work = trial([*command, *words], environment, directory, around.fill(call, directory))
        revision, tools, text = asyncio.run(asyncio.wait_for(work, limit))
    except Exception as error:  # noqa: BLE001
        said = (directory / "stderr.log").read_text(errors="replace") if (directory / "stderr.log").exists() else ""
        why = f"{cause(error)} {' '.join(said.split())[-300:]}"
        return (shown, "-", "-", "-"), why if call else f"does not start: {why}"
    answer = "-" if text is None else f"{call['tool']}: {' '.join(text.split())[:70]}"
    return (shown, revision, tools, answer), None


def main():
    # Log lines on stdout, which the SDK skips with a traceback for each.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    cache, chosen = pathlib.Path(sys.argv[1]), sys.argv[2:]
    curated = tomllib.loads((ENTRIES / "curated.toml").read_text())
    entries = {path.stem: json.loads(path.read_text()) for path in sorted(ENTRIES.glob("*.json"))}
    failed = [f"{name}: it is in one place only" for name in sorted(curated.keys() ^ entries.keys())]
    failed += [f"{name}: no such entry" for name in chosen if name not in entries]
    titles = [entry["name"] for entry in entries.values()]
    failed += [f"{title}: two entries" for title in sorted(set(titles)) if titles.count(title) > 1]
    installed.tools_of_installation(cache)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="trunkline-marketplace-"))
    around = Surroundings(scratch)
    row("Entry", "Package", "Revision", "Tools", "Call", "Verdict")
    row(*["---"] * 6)
    try:
        for name, entry in entries.items():
            if name not in curated or (chosen and name not in chosen):
                continue
            about = curated[name]
            cells, why = tried(cache, around, name, entry, about)
            why = complaints(entry, about) + ([why] if why else [])
            failed += [f"{name}: {text}" for text in why]
            row(name, *cells, "**fails**" if why else "ok" if "tried" in about else f"not tried: {about['not_tried']}")
    finally:
        around.end()
        shutil.rmtree(scratch, ignore_errors=True)
    for text in failed:
        print(f"failed: {text}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
