"""LlamaIndex: `McpToolSpec`."""

from llama_index.tools.mcp import BasicMCPClient, McpToolSpec
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    specification = McpToolSpec(client=BasicMCPClient(url, headers=headers))
    tools = {tool.metadata.name: tool for tool in await specification.to_tool_list_async()}
    listed(tools)
    return await tools[wanted].acall(**ARGUMENTS)


run(trial)
