"""AutoGen: `mcp_server_tools`."""

from autogen_core import CancellationToken
from autogen_ext.tools.mcp import StreamableHttpServerParams, mcp_server_tools
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    tools = {tool.name: tool for tool in await mcp_server_tools(StreamableHttpServerParams(url=url, headers=headers))}
    listed(tools)
    return await tools[wanted].run_json(ARGUMENTS, CancellationToken())


run(trial)
