"""Client frameworks, each with its pinned packages in an environment of its own, and one trial with one of them.

A Python framework has a virtual environment, a JavaScript one a directory with `node_modules`, both in the
cache and made when they are not there. Trials are a process that runs the framework's script of
`frameworks/`: for each URL it lists the tools and calls one.
"""

import dataclasses
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

SCRIPTS = pathlib.Path(__file__).parent / "frameworks"
# For the packages of one framework, in seconds.
INSTALL_LIMIT = 600
# To start, and for each URL besides; CrewAI gives up connecting after 30 s.
TRIAL_LIMIT, CALL_LIMIT = 60, 35


@dataclasses.dataclass(frozen=True)
class Framework:
    name: str
    # Its script; the suffix says the language.
    script: str
    # What is installed, the framework itself first.
    packages: tuple

    @property
    def python(self):
        return self.script.endswith(".py")

    def home(self, cache):
        return cache / self.name.lower().replace(" ", "-")

    @property
    def version(self):
        package = self.packages[0].replace("==", "@")
        return package[package.rindex("@") + 1:]


FRAMEWORKS = [
    Framework("LangChain", "langchain_adapters.py", ("langchain-mcp-adapters==0.3.2",)),
    Framework("Pydantic AI", "pydantic_toolset.py", ("pydantic-ai-slim[mcp]==2.68.0",)),
    Framework("OpenAI Agents", "openai_agents.py", ("openai-agents==0.24.0",)),
    Framework("FastMCP", "fastmcp_client.py", ("fastmcp==4.2.3",)),
    Framework("Google ADK", "google_adk.py", ("google-adk[mcp]==2.13.0",)),
    Framework("Strands", "strands_client.py", ("strands-agents==1.62.0",)),
    Framework("LlamaIndex", "llamaindex_tools.py", ("llama-index-tools-mcp==0.6.0",)),
    Framework("Agno", "agno_tools.py", ("agno==3.1.10", "fastmcp==4.2.3")),
    Framework("CrewAI", "crewai_adapter.py", ("crewai-tools[mcp]==1.15.30",)),
    Framework("mcp-use", "mcp_use_langchain.py", ("mcp-use==1.7.1",)),
    # The newest of the next two break at import with the SDK that they install, 2.x.
    Framework("AutoGen", "autogen_tools.py", ("autogen-ext[mcp]==0.7.5", "mcp==1.30.0")),
    Framework("smolagents", "smolagents_client.py", ("smolagents[mcp]==1.26.0", "mcp==1.30.0")),
    # Connecting needs the other two, which it does not ask for.
    Framework("Agent Framework", "agent_framework_tool.py", ("agent-framework-core==1.23.0", "mcp==2.3.0", "tenacity==9.2.1")),
    Framework("LangChain JS", "langchain.mjs", ("@langchain/mcp-adapters@1.1.4", "@langchain/core@1", "@langchain/langgraph@1")),
    Framework("OpenAI Agents JS", "openai_agents.mjs", ("@openai/agents@0.20.0", "zod@4")),
    Framework("AI SDK", "ai_sdk.mjs", ("@ai-sdk/mcp@2.0.99", "zod@4")),
    Framework("Mastra", "mastra.mjs", ("@mastra/mcp@2.0.0", "@mastra/core@1")),
]


def chosen(words):
    """The frameworks whose name contains one of the words, or all without any."""
    return [one for one in FRAMEWORKS if not words or any(word.lower() in one.name.lower() for word in words)]


def run(*command, **options):
    subprocess.run([str(part) for part in command], check=True, timeout=INSTALL_LIMIT, **options)


def node_of(cache):
    return cache / "node/node_modules/.bin/node"


def npm(cache, home, *packages):
    environment = {**os.environ, "PATH": f"{node_of(cache).parent}:{os.environ['PATH']}"}
    run("npm", "install", "--prefix", home, "--no-audit", "--no-fund", "--loglevel=error", *packages,
        env=environment, stdout=subprocess.DEVNULL)


def tools_of_installation(cache):
    """uv, since pip takes minutes where it has to choose versions; Node 22, which two frameworks ask for."""
    if not (cache / "uv/bin/uv").exists():
        run(sys.executable, "-m", "venv", cache / "uv")
        run(cache / "uv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    if not node_of(cache).exists():
        machine = "arm64" if platform.machine() == "aarch64" else "x64"
        npm(cache, cache / "node", f"node-linux-{machine}@22")


def install(cache, framework):
    """Makes the environment of a framework, unless it is there with these very packages."""
    home = framework.home(cache)
    made = home / "made-of"
    wanted = "\n".join(framework.packages)
    if made.exists() and made.read_text() == wanted:
        return
    shutil.rmtree(home, ignore_errors=True)
    if framework.python:
        uv = cache / "uv/bin/uv"
        run(uv, "venv", "--quiet", "--python", sys.executable, home)
        run(uv, "pip", "install", "--quiet", "--python", home / "bin/python", *framework.packages)
    else:
        npm(cache, home, *framework.packages)
    made.write_text(wanted)


def sdk(cache, framework):
    """Name and version of the MCP SDK that the framework runs on."""
    home = framework.home(cache)
    if framework.python:
        code = "import importlib.metadata as metadata; print('mcp', metadata.version('mcp'))"
        done = subprocess.run([home / "bin/python", "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()
    for package in ("client", "sdk"):
        manifest = home / f"node_modules/@modelcontextprotocol/{package}/package.json"
        if manifest.exists():
            return f"{package} {json.loads(manifest.read_text())['version']}"
    return "its own"


def trials(cache, framework, urls, key, tool):
    """At each URL lists the tools and calls the one that is named with two numbers.

    Answers for each URL {"tools": names, "answer": text}; what failed is in "error", and the others hold what
    came before.
    """
    home = framework.home(cache)
    if framework.python:
        command = [home / "bin/python", SCRIPTS / framework.script]
    else:
        # Modules are found beside the file that wants them.
        for script in (framework.script, "trial.mjs"):
            shutil.copy(SCRIPTS / script, home / script)
        command = [node_of(cache), home / framework.script]
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1",
        "CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "MCP_USE_ANONYMIZED_TELEMETRY": "false",
        "MASTRA_TELEMETRY_DISABLED": "1", "OPENAI_AGENTS_DISABLE_TRACING": "1",
    }
    limit = TRIAL_LIMIT + CALL_LIMIT * len(urls)
    said = {url: {} for url in urls}
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run([*command, key, tool, *urls], env=environment, cwd=home, stdout=output,
                                  stderr=subprocess.STDOUT, timeout=limit).returncode
            ending = f"the process ended with {code}"
        except subprocess.TimeoutExpired:
            ending = f"not done after {limit} s"
        output.seek(0)
        lines = output.read().splitlines()
    for line in lines:
        if line.startswith("trial: "):
            one = json.loads(line.removeprefix("trial: "))
            said[one.pop("url")] |= one
    for one in said.values():
        if "answer" not in one and "error" not in one:
            one["error"] = f"{ending}: {' '.join(lines[-3:])[-400:]}"
    return list(said.values())
