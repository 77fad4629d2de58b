"""mcp-use: `MCPClient` with its adapter for LangChain, as its agent has it."""

from mcp_use import MCPClient
from mcp_use.agents.adapters import LangChainAdapter
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    client = MCPClient.from_dict({"mcpServers": {"trial": {"url": url, "headers": headers}}})
    await client.create_all_sessions()
    adapter = LangChainAdapter()
    await adapter.create_all(client)
    tools = {tool.name: tool for tool in adapter.tools}
    listed(tools)
    return await tools[wanted].ainvoke(ARGUMENTS)


run(trial)
