#!/usr/bin/env python3
"""The server `filesystem` and the reference server, driven in turn by one client over stdio.

    tests/benches-servers/filesystem.py OURS REFERENCE [ROUNDS]

OURS and REFERENCE are programs that take directories, for example the binary of the example `filesystem` of
the crate `servers` and `mcp-server-filesystem` of npm. Prints the medians of each and their ratio.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

FILES = 50_000
WARM = 5
CALLS = {"read 1 KB": 300, "read 1 MB": 30, "search 50,000 files": 3}


class Server:
    """A server as a child process, after its handshake."""

    def __init__(self, command):
        begun = time.perf_counter()
        self.child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.next_id = 0
        self.request("initialize", {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        })
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self.request("tools/list", {})
        self.start = time.perf_counter() - begun

    def send(self, message):
        self.child.stdin.write(json.dumps(message).encode() + b"\n")
        self.child.stdin.flush()

    def request(self, method, params):
        self.next_id += 1
        self.send({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params})
        while True:
            line = self.child.stdout.readline()
            if not line:
                raise SystemExit(f"the server ended: {self.child.args}")
            message = json.loads(line)
            if message.get("id") == self.next_id and "method" not in message:
                return message["result"]
            if "id" in message and "method" in message:
                self.send({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}})

    def call(self, tool, arguments):
        begun = time.perf_counter()
        result = self.request("tools/call", {"name": tool, "arguments": arguments})
        took = time.perf_counter() - begun
        if result.get("isError"):
            raise SystemExit(f"{self.child.args}: {result['content']}")
        return took, result["content"][0]["text"]

    def resident(self):
        """Resident memory of the process and its children, bytes."""
        pages, waiting = 0, [self.child.pid]
        while waiting:
            pid = waiting.pop()
            pages += int(open(f"/proc/{pid}/statm").read().split()[1])
            for task in os.listdir(f"/proc/{pid}/task"):
                waiting += map(int, open(f"/proc/{pid}/task/{task}/children").read().split())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        self.child.stdin.close()
        self.child.wait(timeout=20)


def fill(root):
    """Makes 50,000 files in 500 directories, of which 500 end in `.md`, and the two files that are read."""
    for directory in range(FILES // 100):
        path = os.path.join(root, f"d{directory % 10}", f"e{directory}")
        os.makedirs(path)
        for file in range(100):
            open(os.path.join(path, f"f{file}.{'md' if file == 0 else 'txt'}"), "w").close()
    for name, size in (("small", 1_000), ("large", 1_000_000)):
        with open(os.path.join(root, name), "w") as file:
            file.write(("x" * 79 + "\n") * (size // 80) + "x" * (size % 80))


def measure(command, root, tool, figures):
    server = Server([command, root])
    figures.setdefault("start to tools/list", []).append(server.start)
    figures.setdefault("memory after the start", []).append(server.resident())
    asked = {
        "read 1 KB": (tool, {"path": os.path.join(root, "small") if tool == "read_text_file" else "small"}),
        "read 1 MB": (tool, {"path": os.path.join(root, "large") if tool == "read_text_file" else "large"}),
        "search 50,000 files": ("search_files", {"path": root, "pattern": "**/*.md"})
        if tool == "read_text_file"
        else ("search_files", {"pattern": "*.md", "limit": 1000}),
    }
    for name, (tool_name, arguments) in asked.items():
        for index in range(CALLS[name] + (WARM if CALLS[name] > WARM else 1)):
            took, text = server.call(tool_name, arguments)
            if index >= (WARM if CALLS[name] > WARM else 1):
                figures.setdefault(name, []).append(took)
        expected = {"read 1 KB": 1_000, "read 1 MB": 1_000_000}.get(name)
        if expected is not None:
            assert len(text) == expected, (command, name, len(text))
        else:
            assert text.count(".md") == FILES // 100, (command, name, text.count(".md"))
    figures.setdefault("memory at the end", []).append(server.resident())
    server.stop()


def main():
    ours, reference = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    figures = {"ours": {}, "reference": {}}
    with tempfile.TemporaryDirectory() as root:
        root = os.path.realpath(root)
        fill(root)
        for _ in range(rounds):
            measure(ours, root, "read_file", figures["ours"])
            measure(reference, root, "read_text_file", figures["reference"])
    print(f"{'':24}{'ours':>14}{'reference':>14}{'ratio':>8}")
    for name, values in figures["ours"].items():
        one, other = statistics.median(values), statistics.median(figures["reference"][name])
        unit = (lambda v: f"{v / 1e6:.1f} MB") if name.startswith("memory") else (lambda v: f"{v * 1e3:.3f} ms")
        print(f"{name:24}{unit(one):>14}{unit(other):>14}{other / one:>8.1f}")


main()
