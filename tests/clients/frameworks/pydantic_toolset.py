"""Pydantic AI: `MCPToolset`."""

from pydantic_ai.mcp import MCPToolset
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    async with MCPToolset(url, headers=headers) as toolset:
        listed(tool.name for tool in await toolset.list_tools())
        return await toolset.direct_call_tool(wanted, ARGUMENTS)


run(trial)
