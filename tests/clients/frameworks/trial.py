"""Trials with one framework: at each URL the names of the tools that it lists, then what one call answers.

Each script of this directory gives `run` a coroutine function: it takes the URL, the headers and the name of a
tool, tells the names with `listed` as soon as it has them, and returns the answer of the call.
"""

import asyncio
import json
import os
import sys

ARGUMENTS = {"a": 1000, "b": 2345}


# The one that is tried now.
url = None


def tell(**said):
    print("trial: " + json.dumps({"url": url, **said}), flush=True)


def listed(names):
    tell(tools=list(names))


def cause(error):
    """The first error inside groups of errors, which say nothing themselves."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def run(trial):
    global url
    key, tool = sys.argv[1:3]
    for url in sys.argv[3:]:
        try:
            tell(answer=str(asyncio.run(trial(url, {"X-MCP-Key": key} if key else {}, tool))))
        except BaseException as error:  # noqa: BLE001
            error = cause(error)
            tell(error=f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    # Some leave threads that never end.
    os._exit(0)
