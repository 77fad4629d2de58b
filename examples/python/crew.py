"""CrewAI agents that write files with the gateway's tools, or with tools of their own where MCP is off.

`USE_MCP` is `true`, `false`, or the percentage of tasks that use the gateway, such as `50%`: the same tasks at
every run, by a hash of their names. No model is asked: a script stands in for it. `crew.sh` installs what is needed.
"""

import hashlib
import json
import os
import pathlib
import sys
import tempfile
import threading
import uuid
import warnings
from contextlib import ExitStack

os.environ.update(CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true", CREWAI_TRACING_ENABLED="false")

from crewai import Agent, BaseLLM, Crew, Task  # noqa: E402
from crewai.agents.parser import AgentAction  # noqa: E402
from crewai.tools import BaseTool  # noqa: E402
from crewai_tools import MCPServerAdapter  # noqa: E402

GATEWAY = os.environ.get("MCP_GATEWAY_URL", "http://127.0.0.1:8100").rstrip("/")
USE_MCP = os.environ.get("USE_MCP", "true")
RUN = os.environ.get("CREW_RUN", f"crew-{uuid.uuid4().hex[:8]}")
LIMIT = 30
NAMES = ["mean", "median", "mode", "range", "variance", "quartiles"]

# CrewAI warns of every callback that it cannot write into a checkpoint.
warnings.filterwarnings("ignore", message="function callbacks cannot be serialized")


def uses_mcp(name):
    share = {"true": "100", "false": "0"}.get(USE_MCP, USE_MCP.removesuffix("%"))
    if not share.isdecimal() or int(share) > 100:
        sys.exit(f"USE_MCP is true, false or a percentage, and not {USE_MCP!r}")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % 100 < int(share)


class Script(BaseLLM):
    """Stand-in for a model: says one line of its script at each call."""

    lines: list[str]

    def call(self, messages, *args, **kwargs):
        return self.lines.pop(0)

    def get_input_tokens_count(self, *args, **kwargs):
        return 0


class GatewayTool(BaseTool):
    """A tool of the gateway. When the connection is lost, CrewAI's adapter waits for the answer for ever."""

    inner: BaseTool

    def _run(self, **given):
        watch = threading.Timer(LIMIT, lost)
        watch.start()
        try:
            return self.inner._run(**given)
        finally:
            watch.cancel()


def lost():
    print(f"{GATEWAY} gave no answer for {LIMIT} s", file=sys.stderr, flush=True)
    os._exit(1)


class LocalWrite(BaseTool):
    name: str = "file_write"
    description: str = "Writes a file into a folder of this machine."
    folder: str

    def _run(self, path: str, content: str) -> str:
        (pathlib.Path(self.folder) / path).write_text(content)
        return f"wrote {path}"


def answer_of(tools, name, **given):
    """Calls a tool without an agent. What the gateway refuses is words, and what it did is JSON."""
    text = tools[name].run(**given)
    try:
        return json.loads(text)
    except ValueError:
        sys.exit(f"{name} was refused: {text}")


def crew(name, task_id, tools, calls, log):
    def step(done):
        # It comes twice for a tool: first with the result alone.
        if isinstance(done, AgentAction):
            log(done.tool, str(done.result))

    path = f"{name}.py"
    lines = [f"Thought: next\nAction: {tool}\nAction Input: {json.dumps(given)}" for tool, given in calls]
    model = Script(model="script", lines=[*lines, f"Thought: all is done\nFinal Answer: {path} is written"])
    agent = Agent(role="writer", goal="Write the function", backstory="Writes short functions.", llm=model,
                  tools=tools, step_callback=step, cache=False, max_iter=len(calls) + 2)
    task = Task(description=f"Write {path} ({task_id})", expected_output="The name of the file", agent=agent,
                callback=lambda done: log("answer", done.raw))
    said = Crew(agents=[agent], tasks=[task], cache=False).kickoff().raw
    if said != f"{path} is written" or model.lines:
        sys.exit(f"the crew of {task_id} ended with {said!r}, and {len(model.lines)} lines of its script unsaid")


def with_gateway(name, task_id, tools):
    answer_of(tools, "task_create", task_id=task_id, title=f"Write {name}.py", parent=RUN)
    file = {"task_id": task_id, "path": f"{name}.py"}
    content = f"def {name}(values): ...\n"
    calls = [("claim_file", file), ("file_write", file | {"content": content}), ("file_read", file),
             ("release_file", file)]
    steps = []

    def log(step, said):
        message = said.partition("\n")[0][:300]
        steps.append(answer_of(tools, "log_step", task_id=task_id, step=step, message=message)["seq"])

    crew(name, task_id, [tools[tool] for tool, _ in calls], calls, log)
    read = tools["file_read"].run(**file)
    if read != content:
        sys.exit(f"{name}.py reads {read!r}")
    answer_of(tools, "task_update", task_id=task_id, status="done", result={"steps": len(steps)})
    return f"gateway, {len(steps)} steps logged"


def without_gateway(name, task_id, folder):
    steps = []
    calls = [("file_write", {"path": f"{name}.py", "content": f"def {name}(values): ...\n"})]
    crew(name, task_id, [LocalWrite(folder=folder)], calls, lambda *step: steps.append(step))
    if not (pathlib.Path(folder) / f"{name}.py").exists():
        sys.exit(f"{name}.py was not written into the folder")
    return f"local, {len(steps)} steps"


def main():
    chosen = {name for name in NAMES if uses_mcp(name)}
    with ExitStack() as stack:
        tools = {}
        if chosen:
            key = {"X-MCP-Key": os.environ["MCP_KEY"]} if os.environ.get("MCP_KEY") else {}
            server = {"url": f"{GATEWAY}/mcp/s/collab", "transport": "streamable-http",
                      "headers": {"X-Agent-Id": RUN, **key}}
            try:
                found = stack.enter_context(MCPServerAdapter(server, connect_timeout=10))
            except RuntimeError as error:
                sys.exit(f"{GATEWAY} does not answer: {error}")
            tools = {tool.name: GatewayTool(name=tool.name, description=tool.description,
                                            args_schema=tool.args_schema, inner=tool) for tool in found}
            answer_of(tools, "task_create", task_id=RUN, title="Functions for lists of numbers")
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name in NAMES:
            task_id = f"{RUN}-{name}"
            if name in chosen:
                print(f"{task_id}: {with_gateway(name, task_id, tools)}", flush=True)
            else:
                print(f"{task_id}: {without_gateway(name, task_id, folder)}", flush=True)
    print(f"{len(chosen)} of {len(NAMES)} tasks used the gateway")


main()
