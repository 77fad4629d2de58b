"""Agno: `MCPTools`."""

from agno.tools.mcp import MCPTools, StreamableHTTPClientParams
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    place = StreamableHTTPClientParams(url=url, headers=headers)
    async with MCPTools(transport="streamable-http", server_params=place) as tools:
        listed(tools.functions)
        return await tools.functions[wanted].entrypoint(**ARGUMENTS)


run(trial)
