"""CrewAI: `MCPServerAdapter`, which is not asynchronous and folds runs of `_` in names."""

import re

from crewai_tools import MCPServerAdapter
from trial import ARGUMENTS, listed, run


async def trial(url, headers, wanted):
    with MCPServerAdapter({"url": url, "transport": "streamable-http", "headers": headers}) as adapter:
        tools = {tool.name: tool for tool in adapter}
        listed(tools)
        return tools[re.sub("_+", "_", wanted)].run(**ARGUMENTS)


run(trial)
