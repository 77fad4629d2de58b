"""Client frameworks, unmodified and without a model account, at `/mcp` of a gateway that trusts no connection.

Starts the gateway given as the first argument on a free port and in a temporary directory, makes an agent's
key, and has each framework list the tools and call `calculator__add`. The second argument is the directory
where the frameworks are installed; words after it choose some of them by their names. Prints a table; exits
with 1 when one failed.
"""

import json
import pathlib
import re
import socket
import sys
import tempfile
import threading
import urllib.request

import gateway
import installed

GATEWAY, CACHE = sys.argv[1], pathlib.Path(sys.argv[2])
TOOL = "calculator__add"
# Of the two numbers that each script of `frameworks/` adds.
SUM = "3345"
REVISION = re.compile(rb"\r\nmcp-protocol-version: *([0-9-]+)", re.IGNORECASE)


class Tap:
    """A relay before the gateway that notes the revision in the header of what passes."""

    def __init__(self, address):
        host, port = address.removeprefix("http://").split(":")
        self.target, self.revision = (host, int(port)), None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/mcp"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            threading.Thread(target=self.pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(server, client, False), daemon=True).start()

    def pass_on(self, source, target, asking):
        try:
            while data := source.recv(65536):
                if asking and (found := REVISION.findall(data)):
                    self.revision = found[-1].decode()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()


def agent_key(address, operator):
    """The secret of a new key for an agent."""
    headers = {"Content-Type": "application/json", "X-MCP-Key": operator}
    body = json.dumps({"name": "frameworks", "role": "agent"}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/v1/keys", body, headers)) as answer:
        return json.load(answer)["secret"]


def verdict(said):
    """`ok`, or what is wrong: the tool is listed, and the sum is in what the framework shows."""
    if "error" in said:
        return said["error"]
    if re.sub("_+", "_", TOOL) not in [re.sub("_+", "_", name) for name in said.get("tools", [])]:
        return f"{TOOL} is not among {said.get('tools')}"
    return "ok" if SUM in said["answer"] else f"no {SUM} in {said['answer']}"


def cell(text):
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= 90 else text[:89] + "…"


def main():
    failed = []
    installed.tools_of_installation(CACHE)
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        process, address = gateway.start(GATEWAY, scratch, LOOPBACK_ROLE="none", RATE_LIMIT_MAX_REQUESTS="0")
        try:
            key = agent_key(address, (scratch / "data/operator.key").read_text().strip())
            print("| Framework | Version | MCP SDK | Revision | Tools | Call | Verdict |")
            print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
            for framework in installed.chosen(sys.argv[3:]):
                installed.install(CACHE, framework)
                tap = Tap(address)
                (said,) = installed.trials(CACHE, framework, [tap.url], key, TOOL)
                result = verdict(said)
                failed += [framework.name] if result != "ok" else []
                row = [framework.name, framework.version, installed.sdk(CACHE, framework), tap.revision or "none",
                       str(len(said.get("tools", []))), f"`{cell(said.get('answer', ''))}`", cell(result)]
                print(f"| {' | '.join(row)} |", flush=True)
        finally:
            gateway.stop(process)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
