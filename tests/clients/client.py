"""The official Python client against one endpoint: runs the steps of a plan and says how each went.

The plan comes on standard input: {"url" or "command", "headers", "mode", "steps"}. Each step is answered
by a line {"step", "ok", "why"}.
"""

import asyncio
import json
import sys

import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

LIMIT = 30


async def sample(_context, _params):
    content = types.TextContent(type="text", text="forty-two")
    return types.CreateMessageResult(role="assistant", content=content, model="a-model")


async def elicit(_context, _params):
    return types.ElicitResult(action="accept", content={"name": "Ada"})


async def everything(list_page, member):
    found, cursor = [], None
    while True:
        page = await list_page(cursor=cursor)
        found += getattr(page, member)
        cursor = page.next_cursor
        if not cursor:
            return found


def text_of(result):
    text = result.model_dump_json()
    if getattr(result, "is_error", False):
        raise AssertionError(f"the tool failed: {text[:300]}")
    return text


async def run(client, step):
    does = step["do"]
    if does == "revision":
        assert client.protocol_version == step["wants"], f"it is {client.protocol_version}"
    elif does == "tools":
        found = [tool.name for tool in await everything(client.list_tools, "tools")]
        missing = [name for name in step["wants"] if name not in found]
        assert not missing, f"not listed: {missing}, but {found}"
    elif does == "call":
        text = text_of(await client.call_tool(step["name"], step["arguments"]))
        assert step["wants"] in text, f"{step['wants']!r} is not in {text[:300]}"
    elif does == "progress":
        heard = []

        async def progress(value, _total, _message):
            heard.append(value)

        text_of(await client.call_tool(step["name"], step["arguments"], progress_callback=progress))
        assert len(heard) >= 2, f"only {len(heard)} times progress"
    elif does == "resources":
        found = await everything(client.list_resources, "resources")
        assert found, "no resources"
        read = await client.read_resource(found[0].uri)
        assert read.contents, f"{found[0].uri} is empty"
    elif does == "prompts":
        found = [prompt.name for prompt in await everything(client.list_prompts, "prompts")]
        assert step["name"] in found, f"{step['name']} is not in {found}"
        got = await client.get_prompt(step["name"])
        assert got.messages, "a prompt without messages"


async def main():
    plan = json.load(sys.stdin)
    if "command" in plan:
        command, *arguments = plan["command"]
        place = stdio_client(StdioServerParameters(command=command, args=arguments, env=plan["env"]))
    else:
        place = plan["url"]
    client = Client(place, mode=plan["mode"], sampling_callback=sample, elicitation_callback=elicit)
    async with client:
        for step in plan["steps"]:
            said = {"step": step["title"], "ok": True}
            try:
                await asyncio.wait_for(run(client, step), LIMIT)
            except Exception as error:  # noqa: BLE001
                said |= {"ok": False, "why": f"{type(error).__name__}: {error}"}
            print(json.dumps(said), flush=True)


asyncio.run(main())
