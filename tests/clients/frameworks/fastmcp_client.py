"""FastMCP: `Client`."""

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    async with Client(StreamableHttpTransport(url, headers=headers)) as client:
        listed(tool.name for tool in await client.list_tools())
        return await client.call_tool(wanted, ARGUMENTS)


run(trial)
