"""Measures which client frameworks lose tools when a server has one odd definition. No gateway takes part.

A plain Streamable HTTP server (2025-11-25) has the tool `add` and beside it one odd tool. Each framework lists
the tools and calls `add`. Prints the table of `docs/clients.md`: what happens with the frameworks that lose a
tool or change a name; with the others both tools are listed as they are and the call is answered.

The first argument is the directory that `.ci/clients frameworks` has filled; words after it choose frameworks.
"""

import http.server
import json
import pathlib
import re
import sys
import threading

import installed

CACHE = pathlib.Path(sys.argv[1])
STRING, NUMBER = {"type": "string"}, {"type": "number"}
OBJECT = {"type": "object", "properties": {"x": STRING}}
LONG = "n" * 65


def tool(name="odd", schema=OBJECT):
    return {"name": name, "description": "Does something.", "inputSchema": schema}


ADD = tool("add", {"type": "object", "properties": {"a": NUMBER, "b": NUMBER}, "required": ["a", "b"]})
BRANCHES = [{"properties": {"x": STRING}, "required": ["x"]}, {"properties": {"y": STRING}, "required": ["y"]}]
USUAL = "nothing odd (to compare)"
# Each rule with the tool that breaks it.
RULES = {
    USUAL: tool(),
    "parameter beginning with `_`": tool(schema={"type": "object", "properties": {"_x": STRING}}),
    "property whose `type` is a list": tool(schema={"type": "object", "properties": {"x": {"type": ["string", "null"]}}}),
    "`type` that is a list, in `items`": tool(schema={"type": "object", "properties": {
        "x": {"type": "array", "items": {"type": ["string", "null"]}}}}),
    "property without `type`": tool(schema={"type": "object", "properties": {"x": {"description": "Anything."}}}),
    "`anyOf` with a branch without `type`": tool(schema={"type": "object", "properties": {
        "x": {"anyOf": [STRING, {"description": "Anything."}]}}}),
    "`$ref` in `$defs` to a later one": tool(schema={"type": "object", "properties": {"x": {"$ref": "#/$defs/A"}}, "$defs": {
        "A": {"type": "object", "properties": {"b": {"$ref": "#/$defs/B"}}}, "B": OBJECT}}),
    "`$ref` in `$defs` to an earlier one": tool(schema={"type": "object", "properties": {"x": {"$ref": "#/$defs/B"}}, "$defs": {
        "A": OBJECT, "B": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}}),
    "key of `_meta` beginning with `_`": tool() | {"_meta": {"_fastmcp": {"tags": []}}},
    "name with a capital": tool("oddOne"),
    "`inputSchema` without `properties`": tool(schema={"type": "object"}),
    "`inputSchema` without `type`": tool(schema={"properties": {"x": STRING}}),
    "no `inputSchema`": {"name": "odd", "description": "Does something."},
    "`oneOf` at the top": tool(schema={"type": "object", "oneOf": BRANCHES}),
    "name with `.`": tool("odd.one"),
    "name with `/`": tool("odd/one"),
    "name with `-`": tool("odd-one"),
    "name with a run of `_`": tool("odd__one"),
    "name of 65 characters": tool(LONG),
}


class Server(http.server.BaseHTTPRequestHandler):
    """A server without sessions; the odd tool is that of the rule whose number is the path."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, message=None):
        body = json.dumps(message).encode() if message else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(405)

    do_DELETE = do_GET

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in request:
            return self.answer(202)
        params = request.get("params", {})
        answer = {"jsonrpc": "2.0", "id": request["id"]}
        match request["method"]:
            case "initialize":
                about = {"name": "odd", "version": "1"}
                answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
            case "ping":
                answer["result"] = {}
            case "tools/list":
                answer["result"] = {"tools": [ADD, list(RULES.values())[int(self.path[1:])]]}
            case "tools/call":
                numbers = params["arguments"]
                text = str(numbers["a"] + numbers["b"])
                answer["result"] = {"content": [{"type": "text", "text": text}]}
            case method:
                answer["error"] = {"code": -32601, "message": f"unknown method {method}"}
        self.answer(200, answer)


def seen(said, odd):
    """What came of a trial, in words; nothing when both tools are listed as they are and the call is answered."""
    names = said.get("tools")
    if names is None:
        return f"no list: `{essence(said['error'])}`"
    if not names:
        return "an empty list, and no error"
    parts = []
    if len(names) < 2:
        parts.append(f"only `{names[0]}` is listed")
    elif odd not in names:
        parts.append(f"lists `{next(name for name in names if name != 'add')}`")
    if "error" in said:
        parts.append(f"`add` fails: `{essence(said['error'])}`")
    return "; ".join(parts).replace(odd, odd.replace(LONG, "nnn…"))


def essence(error):
    """An error without line breaks, addresses and what pydantic adds, at most 120 characters."""
    text = " ".join(error.replace("|", "/").replace("`", "'").split())
    text = re.sub(r"http://127\.0\.0\.1:\d+/\d+", "URL", text)
    text = re.sub(r" \[type=.*| For more information.*", "", text)
    return text if len(text) <= 120 else text[:119] + "…"


def main():
    frameworks = installed.chosen(sys.argv[2:])
    installed.tools_of_installation(CACHE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = [f"http://127.0.0.1:{server.server_port}/{number}" for number in range(len(RULES))]
    # For each rule the clients by what happens with them.
    outcomes = {rule: {} for rule in RULES}
    for framework in frameworks:
        installed.install(CACHE, framework)
        for (rule, odd), said in zip(RULES.items(), installed.trials(CACHE, framework, urls, "", "add"), strict=True):
            if happened := seen(said, odd["name"]):
                outcomes[rule].setdefault(happened, []).append(f"{framework.name} {framework.version}")
    print("| Rule | Client | What happens |\n| --- | --- | --- |")
    for rule, found in outcomes.items():
        for happened, clients in found.items():
            print(f"| {rule} | {', '.join(clients)} | {happened} |")
    print(f"\nTried: {', '.join(f'{one.name} {one.version}' for one in frameworks)}.")
    if outcomes[USUAL]:
        sys.exit("a definition without anything odd was not taken by all, so the rows above say nothing")


main()
