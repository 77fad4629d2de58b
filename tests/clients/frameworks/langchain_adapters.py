"""LangChain: `MultiServerMCPClient`."""

from langchain_mcp_adapters.client import MultiServerMCPClient
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    client = MultiServerMCPClient({"trial": {"transport": "streamable_http", "url": url, "headers": headers}})
    tools = {tool.name: tool for tool in await client.get_tools()}
    listed(tools)
    return await tools[wanted].ainvoke(ARGUMENTS)


run(trial)
