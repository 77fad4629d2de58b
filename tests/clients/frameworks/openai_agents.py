"""OpenAI Agents: `MCPServerStreamableHttp`."""

from agents.mcp import MCPServerStreamableHttp
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    async with MCPServerStreamableHttp(params={"url": url, "headers": headers}) as server:
        listed(tool.name for tool in await server.list_tools())
        return await server.call_tool(wanted, ARGUMENTS)


run(trial)
