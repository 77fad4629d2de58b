"""Agent Framework: `MCPStreamableHTTPTool`."""

import httpx2
from agent_framework import MCPStreamableHTTPTool
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    place = MCPStreamableHTTPTool(name="trial", url=url, http_client=httpx2.AsyncClient(headers=headers))
    async with place:
        listed(function.name for function in place.functions)
        return [content.to_dict() for content in await place.call_tool(wanted, **ARGUMENTS)]


run(trial)
