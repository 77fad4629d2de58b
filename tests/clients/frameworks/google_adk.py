"""Google ADK: `McpToolset`."""

from google.adk.tools.mcp_tool.mcp_session_manager import StreamableHTTPConnectionParams
from google.adk.tools.mcp_tool.mcp_toolset import McpToolset
from trial import ARGUMENTS, listed, run


class Context:
    """Stands for the tool context of an agent, of which a call needs a state and nothing else."""

    state = {}

    def __getattr__(self, name):
        return None


async def trial(url, headers, wanted):
    toolset = McpToolset(connection_params=StreamableHTTPConnectionParams(url=url, headers=headers))
    tools = {tool.name: tool for tool in await toolset.get_tools()}
    listed(tools)
    return await tools[wanted].run_async(args=ARGUMENTS, tool_context=Context())


run(trial)
