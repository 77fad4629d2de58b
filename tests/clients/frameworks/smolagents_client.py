"""smolagents: `MCPClient`, which is not asynchronous."""

from smolagents import MCPClient
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    with MCPClient({"url": url, "transport": "streamable-http", "headers": headers}) as client:
        tools = {tool.name: tool for tool in client}
        listed(tools)
        return tools[wanted](**ARGUMENTS)


run(trial)
