"""Strands: `MCPClient`, which is not asynchronous."""

import httpx2
from mcp.client.streamable_http import streamable_http_client
from strands.tools.mcp import MCPClient
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    with MCPClient(lambda: streamable_http_client(url, http_client=httpx2.AsyncClient(headers=headers))) as client:
        listed(tool.tool_name for tool in client.list_tools_sync())
        return client.call_tool_sync(tool_use_id="1", name=wanted, arguments=ARGUMENTS)


run(trial)
