"""Two agents on one task: a coder who leases and writes a file, and a reviewer who follows and corrects it.

Needs the official SDK (`requirements.txt`) and a running gateway. The agents meet only there: all that one gets
from the other in this process is the task's id. Exits with 0 if all went as expected, else with 1 and a reason.
"""

import asyncio
import json
import os
import sys
import time
import uuid

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

GATEWAY = os.environ.get("MCP_GATEWAY_URL", "http://127.0.0.1:8100").rstrip("/")
KEY = {"X-MCP-Key": os.environ["MCP_KEY"]} if os.environ.get("MCP_KEY") else {}
TASK, FILE = f"demo-{uuid.uuid4().hex[:8]}", "src/mean.py"
DRAFT = "def mean(values):\n    return sum(values) / len(values)\n"
EDIT = {"old": "    return", "new": "    if not values:\n        raise ValueError('no values')\n    return"}
START = time.monotonic()


class Unexpected(Exception):
    pass


def expect(true, sentence):
    if not true:
        raise Unexpected(sentence)


class Agent:
    def __init__(self, name, client):
        self.name, self.client, self.events, self.news = name, client, [], asyncio.Condition()

    def say(self, text):
        print(f"{time.monotonic() - START:6.2f} s  {self.name:<8}  {text}", flush=True)

    async def ask(self, tool, **arguments):
        """Returns whether a call succeeded, and its result or refusal."""
        result = await self.client.call_tool(f"collab__{tool}", {"task_id": TASK, **arguments})
        expect(isinstance(result.structured_content, dict), f"{tool} of the {self.name} answered {result.content}")
        return not result.is_error, result.structured_content

    async def call(self, tool, **arguments):
        done, result = await self.ask(tool, **arguments)
        expect(done, f"{tool} of the {self.name} was refused: {json.dumps(result)}")
        return result

    async def log(self, step, **more):
        seq = (await self.call("log_step", step=step, **more))["seq"]
        self.say(f"logs step {seq}: {step}")
        return seq

    async def follow(self):
        after = 0
        while True:
            page = await self.call("subscribe_logs", after=after, wait_seconds=10)
            after = page["after"]
            for event in page["events"]:
                if event["agent"] != self.name:
                    self.say(f"  sees {event['seq']}: {event['agent']} {event['kind']} {json.dumps(event['data'])}")
            self.events += page["events"]
            async with self.news:
                self.news.notify_all()

    async def sees(self, agent, kind, **data):
        """Waits for an event in the log."""
        def wanted(event):
            return (event["agent"], event["kind"]) == (agent, kind) and data.items() <= event["data"].items()
        async with self.news:
            await self.news.wait_for(lambda: any(map(wanted, self.events)))


async def coder(me, created):
    await me.call("task_create", title="Write a function for the mean", assigned_to=me.name)
    created.set_result(True)
    await me.call("join_collab", role="coder")
    lease = await me.call("claim_file", path=FILE, ttl_seconds=30)
    me.say(f"created {TASK}; leased {FILE}, token {lease['token']}")
    written = await me.call("file_write", path=FILE, content=DRAFT, token=lease["token"])
    expect(written["version"] == 1, f"the draft is version {written['version']}, not 1")
    steps = [await me.log("draft written", status="review")]
    await me.sees("reviewer", "step", step="waiting for the file")
    await asyncio.sleep(2)
    steps.append(await me.log("draft tried with three lists", data={"passed": 3}))
    await me.call("release_file", path=FILE, token=lease["token"])
    me.say(f"released {FILE}")
    await me.sees("reviewer", "task_updated", status="done")
    return steps


async def reviewer(me):
    joined = await me.call("join_collab", role="reviewer")
    me.say(f"joined {TASK} of {joined['task']['createdBy']}")
    await me.sees("coder", "step", step="draft written")
    read = await me.call("file_read", path=FILE)
    expect((read["content"], read["version"]) == (DRAFT, 1), f"the draft reads {read}")
    for tool, more in (("file_write", {"content": "mine\n"}), ("claim_file", {})):
        done, refusal = await me.ask(tool, path=FILE, **more)
        expect(not done, f"{tool} of the reviewer went through a lease of the coder")
        expect((refusal.get("code"), refusal.get("holder")) == ("lease_held", "coder"), f"{tool}: {refusal}")
        expect(0 < refusal["expiresInMs"] <= 30_000, f"the lease has {refusal['expiresInMs']} ms left")
        me.say(f"{tool}: {refusal['code']}, holder {refusal['holder']}, {refusal['expiresInMs'] / 1000:.1f} s left")
    await me.log("waiting for the file")
    lease = await me.call("claim_file", path=FILE, wait_seconds=20)
    me.say(f"leased {FILE}, token {lease['token']}")
    edited = await me.call("file_edit", path=FILE, edits=[EDIT], token=lease["token"])
    expect(edited["version"] == 2, f"the edit made version {edited['version']}, not 2")
    me.say("edited:\n" + "".join(f"{'':22}{line}\n" for line in edited["diff"].splitlines()).rstrip())
    await me.log("an empty list is refused now")
    await me.call("task_update", status="done", result={"file": FILE, "version": 2}, expected_status="pending")
    me.say("marked the task done")
    await me.call("leave_collab")


def connection(name):
    http = httpx2.AsyncClient(headers={"X-Agent-Id": name, **KEY}, timeout=httpx2.Timeout(10, read=30))
    return Client(streamable_http_client(f"{GATEWAY}/mcp", http_client=http))


async def work():
    created = asyncio.get_running_loop().create_future()
    async with connection("coder") as one, connection("reviewer") as two, asyncio.TaskGroup() as group:
        a, b = Agent("coder", one), Agent("reviewer", two)
        writes = group.create_task(coder(a, created))
        await created
        followers = [group.create_task(agent.follow()) for agent in (a, b)]
        await group.create_task(reviewer(b))
        steps, last = await writes, (await b.call("task_get"))["task"]["lastSeq"]
        await b.sees("reviewer", "left")
        for follower in followers:
            follower.cancel()
    seen = [event["seq"] for event in b.events]
    expect(seen == list(range(1, last + 1)), f"of {last} events, the reviewer saw {seen}")
    logged = [event["seq"] for event in b.events if (event["agent"], event["kind"]) == ("coder", "step")]
    expect(logged == steps, f"the coder logged the steps {steps}, and the reviewer saw {logged}")
    print(f"As expected: the reviewer saw all {last} events in order, and the file has 2 versions.")


try:
    asyncio.run(asyncio.wait_for(work(), timeout=60))
except (Unexpected, MCPError, httpx2.HTTPError, TimeoutError, ExceptionGroup) as error:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    sys.exit(f"Not as expected at {GATEWAY}: {str(error) or type(error).__name__}")
