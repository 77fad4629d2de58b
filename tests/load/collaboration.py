"""Load trial of collaboration: agents that read, edit, claim, log and follow, on PostgreSQL and Redis.

The script starts a PostgreSQL, a Redis and a gateway of its own on free ports of loopback, in a temporary
directory, and ends them again. It needs the programs of PostgreSQL (/usr/lib/postgresql/*/bin), redis-server,
a release build of the gateway, and Python 3.11 or later:

    python3 -m venv load-venv
    load-venv/bin/pip install aiohttp==3.14.5 asyncpg==0.32.0 uvloop==0.23.0
    cargo build --release -p api
    load-venv/bin/python tests/load/collaboration.py --binary target/release/trunkline
    load-venv/bin/python tests/load/collaboration.py --binary target/release/trunkline --saturate
    load-venv/bin/python tests/load/collaboration.py --binary target/release/trunkline --pair

The report goes to standard output as JSON, a short table to standard error. The exit code is 0 when every bar
holds and 1 when one is missed, which is named.
"""

import argparse
import asyncio
import contextlib
import ctypes
import glob
import json
import os
import pwd
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import asyncpg
import uvloop

P95_MS = 50.0
SYNC_LAG_P95_MS = 1000.0
LOG_TRANSACTIONS_PER_SECOND = 50.0
CACHE_HIT_RATE = 0.80
PAIR_GAIN = 1.40
# Part of the asked actions that must have been done, so that a slow answer cannot hide in fewer actions.
DONE = 0.97

ACTIONS = ("read", "edit", "claim", "log", "follow")
# Sizes of the files of each task, lines of 64 bytes.
LINES = (16, 32, 64, 128, 256, 512)
LEASE_SECONDS = 8
WAIT_SECONDS = 2.0
# Of the calls that follow, those that wait; of the edits, those that name the version.
WAITED = 0.1
VERSIONED = 0.25
SLICE_SECONDS = 10
TICKS = os.sysconf("SC_CLK_TCK")


# Processes


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def end_with_parent():
    """Ends the child when this script is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def times_of(pid):
    """Processor seconds of a process, and of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0, 0.0, 0
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own / TICKS, ended / TICKS, int(fields[1])


def cpu_of_tree(pid):
    own, ended, _ = times_of(pid)
    total = own + ended
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            used, _, parent = times_of(entry)
            if parent == pid:
                total += used
    return total


def machine_cpu():
    """Processor seconds used by all processes, and those that another machine took."""
    user, nice, system, _, _, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq) / TICKS, steal / TICKS


def disk_of(path):
    """Writes, flushes, and the times that they took, of the disk below a path; by all processes."""
    device = os.stat(path).st_dev
    place = [str(os.major(device)), str(os.minor(device))]
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[:2] == place and len(fields) >= 20:
            return {"mb": int(fields[9]) / 2048, "flushes": int(fields[18]), "flush_ms": int(fields[19])}
    return {"mb": 0.0, "flushes": 0, "flush_ms": 0}


def own_cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Stack:
    """PostgreSQL, Redis and the gateway."""

    def __init__(self, binary, pool):
        self.binary, self.pool = Path(binary).resolve(), pool
        self.dir = Path(tempfile.mkdtemp(prefix="collaboration-load-"))
        self.started = []
        self.pids = {}

    def start(self, name, command, **options):
        log = open(self.dir / f"{name}.log", "wb")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent, **options
        )
        log.close()
        self.started.append((name, process))
        self.pids[name] = process.pid
        return process

    async def __aenter__(self):
        try:
            await self.start_all()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(self, *_):
        self.stop()

    async def start_all(self):
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[-2]))
        if not programs:
            raise SystemExit("PostgreSQL is not installed: there is no /usr/lib/postgresql/*/bin")
        postgres = {}
        data = self.dir / "postgres"
        data.mkdir(mode=0o700)
        os.chmod(self.dir, 0o755)
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            postgres = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(data, user.pw_uid, user.pw_gid)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.dir), "LC_ALL": "C"}
        subprocess.run(
            [f"{programs[-1]}/initdb", "-D", str(data), "-U", "trunkline", "-A", "trust", "-E", "UTF8"],
            check=True, stdout=subprocess.DEVNULL, cwd=data, env=environment, **postgres,
        )
        self.postgres_port, self.redis_port = free_port(), free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": str(data),
            "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on",
            "track_wal_io_timing": "on",
        }
        self.start(
            "postgres",
            [f"{programs[-1]}/postgres", "-D", str(data), "-p", str(self.postgres_port)]
            + [part for name, value in settings.items() for part in ("-c", f"{name}={value}")],
            cwd=data, env=environment, **postgres,
        )
        self.start(
            "redis",
            ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "",
             "--dir", str(self.dir), "--maxmemory", "256mb", "--maxmemory-policy", "volatile-lru"],
            cwd=self.dir, env=environment,
        )
        server = f"postgres://trunkline@127.0.0.1:{self.postgres_port}"
        self.database = f"{server}/trunkline"
        admin = await self.within(30, lambda: asyncpg.connect(f"{server}/postgres"))
        await admin.execute("CREATE DATABASE trunkline")
        self.postgres_version = await admin.fetchval("SHOW server_version")
        await admin.close()
        self.port, self.metrics_port = free_port(), free_port()
        self.start(
            "gateway", [str(self.binary)], cwd=self.dir,
            env=environment | {
                "DATABASE_URL": self.database, "REDIS_URL": f"redis://127.0.0.1:{self.redis_port}",
                "DB_POOL_MAX": str(self.pool), "RATE_LIMIT_MAX_REQUESTS": "0", "LOG_LEVEL": "warn",
                "DATA_DIR": str(self.dir / "data"), "HOST": "127.0.0.1", "PORT": str(self.port),
                "METRICS_PORT": str(self.metrics_port),
            },
        )

    async def within(self, seconds, attempt):
        until = time.monotonic() + seconds
        while True:
            try:
                return await attempt()
            except Exception:
                for name, process in self.started:
                    if process.poll() is not None:
                        log = (self.dir / f"{name}.log").read_text(errors="replace")
                        raise SystemExit(f"{name} ended with {process.returncode}:\n{log[-2000:]}") from None
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)

    def stop(self):
        for name, process in reversed(self.started):
            if process.poll() is None:
                process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        self.started = []
        shutil.rmtree(self.dir, ignore_errors=True)

    def cpu(self):
        used = {name: cpu_of_tree(pid) for name, pid in self.pids.items()}
        used["client"] = own_cpu()
        used["machine"], used["stolen"] = machine_cpu()
        return used


# Calls


@dataclass
class Answer:
    status: int
    body: dict
    seconds: float

    @property
    def is_ok(self):
        return self.status == 200

    @property
    def refusal(self):
        """The word for a documented refusal; `None` for an error."""
        code, detail = self.body.get("code"), self.body.get("detail", "")
        if self.status == 409 and code in ("lease_held", "version_conflict", "stale_token"):
            return code
        if self.status == 422 and code == "validation_failed" and (
            "does not occur" in detail or "does not fit" in detail
        ):
            return "edit_does_not_fit"
        return None


class Gateway:
    def __init__(self, stack):
        self.tools = f"http://127.0.0.1:{stack.port}/tools/"
        self.health_url = f"http://127.0.0.1:{stack.port}/health"
        self.metrics_url = f"http://127.0.0.1:{stack.metrics_port}/metrics"
        self.session = None

    async def __aenter__(self):
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(total=40), auto_decompress=False,
            skip_auto_headers=["User-Agent", "Accept-Encoding"],
        )
        return self

    async def __aexit__(self, *_):
        await self.session.close()

    async def call(self, agent, tool, **arguments):
        body = json.dumps(arguments).encode()
        headers = {"X-Agent-Id": agent, "Content-Type": "application/json"}
        started = time.perf_counter()
        try:
            async with self.session.post(self.tools + tool, data=body, headers=headers) as response:
                content = await response.read()
                seconds = time.perf_counter() - started
                return Answer(response.status, json.loads(content), seconds)
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
            seconds = time.perf_counter() - started
            return Answer(0, {"code": type(error).__name__, "detail": str(error)}, seconds)

    async def must(self, agent, tool, **arguments):
        answer = await self.call(agent, tool, **arguments)
        if not answer.is_ok:
            raise SystemExit(f"{tool} {str(arguments)[:200]}: {answer.status} {answer.body}")
        return answer.body

    async def health(self):
        async with self.session.get(self.health_url) as response:
            response.raise_for_status()
            return await response.json(content_type=None)

    async def metrics(self):
        async with self.session.get(self.metrics_url) as response:
            text = await response.text()
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values


# Figures


def quantile(ordered, part):
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def spread(seconds):
    ordered = sorted(seconds)
    shown = {name: round(quantile(ordered, part) * 1000, 2) for name, part in
             (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))}
    return {"calls": len(ordered), **shown, "max_ms": round(ordered[-1] * 1000, 2) if ordered else 0.0}


@dataclass
class Tally:
    """What happened in a span of time."""

    times: dict = field(default_factory=lambda: defaultdict(list))
    refusals: dict = field(default_factory=lambda: defaultdict(Counter))
    errors: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=dict)
    lags: list = field(default_factory=list)
    client_lags: list = field(default_factory=list)
    actions: int = 0

    def note(self, tool, answer):
        self.times[tool].append(answer.seconds)
        if answer.is_ok:
            return
        if answer.refusal:
            self.refusals[tool][answer.refusal] += 1
        else:
            what = f"{tool}: {answer.status} {answer.body.get('code')}"
            self.errors[what] += 1
            self.examples.setdefault(what, str(answer.body)[:500])


def waited(tool):
    return tool.endswith("(waited)")


@dataclass
class Figures:
    """Counters of the system at one moment."""

    at: float
    metrics: dict
    database: dict
    cpu: dict
    disk: dict

    @staticmethod
    async def read(gateway, connection, stack):
        # A count of the transactions that wrote: only these take a number.
        row = await connection.fetchrow(
            "SELECT xact_commit, xact_rollback, tup_inserted, tup_updated, tup_deleted, deadlocks,"
            " pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS writing,"
            " (SELECT wal_bytes::bigint FROM pg_stat_wal) AS wal_bytes,"
            " (SELECT wal_records FROM pg_stat_wal) AS wal_records,"
            " (SELECT wal_sync FROM pg_stat_wal) AS wal_syncs,"
            " (SELECT (1000 * wal_sync_time)::bigint FROM pg_stat_wal) AS wal_sync_us"
            " FROM pg_stat_database WHERE datname = current_database()"
        )
        return Figures(time.perf_counter(), await gateway.metrics(), dict(row), stack.cpu(), disk_of(stack.dir))

    def since(self, earlier):
        span = self.at - earlier.at
        rates = {name: (self.database[name] - earlier.database[name]) / span for name in self.database}

        def grown(name):
            return self.metrics.get(name, 0) - earlier.metrics.get(name, 0)

        steps, transactions = grown("mcp_log_steps_total"), grown("mcp_log_step_transactions_total")
        hits, misses = (grown(f'mcp_task_cache_total{{result="{word}"}}') for word in ("hit", "miss"))
        cpu = {name: self.cpu[name] - earlier.cpu[name] for name in self.cpu}
        ours = sum(cpu[name] for name in ("postgres", "redis", "gateway", "client"))
        shares = {f"{name}_percent_of_a_core": round(100 * cpu[name] / span, 1) for name in cpu}
        shares["others_percent_of_a_core"] = round(100 * (cpu["machine"] - ours) / span, 1)
        disk = {name: self.disk[name] - earlier.disk[name] for name in self.disk}
        syncs = max(1.0, self.database["wal_syncs"] - earlier.database["wal_syncs"])
        return {
            "seconds": round(span, 1),
            "log_steps_per_second": round(steps / span, 2),
            "log_transactions_per_second": round(transactions / span, 2),
            "steps_per_log_transaction": round(steps / transactions, 2) if transactions else 0,
            "cache_hits": int(hits),
            "cache_misses": int(misses),
            "cache_hit_rate": round(hits / (hits + misses), 4) if hits + misses else 0,
            "database": {
                "transactions_per_second": round(rates["xact_commit"], 1),
                "rolled_back_per_second": round(rates["xact_rollback"], 1),
                "writing_transactions_per_second": round(rates["writing"], 1),
                "rows_inserted_per_second": round(rates["tup_inserted"], 1),
                "rows_updated_per_second": round(rates["tup_updated"], 1),
                "rows_deleted_per_second": round(rates["tup_deleted"], 1),
                "wal_kb_per_second": round(rates["wal_bytes"] / 1024, 1),
                "wal_syncs_per_second": round(rates["wal_syncs"], 1),
                "wal_sync_ms": round(
                    (self.database["wal_sync_us"] - earlier.database["wal_sync_us"]) / syncs / 1000, 2
                ),
                "deadlocks": self.database["deadlocks"] - earlier.database["deadlocks"],
            },
            "disk_of_all_processes": {
                "written_mb_per_second": round(disk["mb"] / span, 2),
                "flushes_per_second": round(disk["flushes"] / span, 1),
                "flush_ms": round(disk["flush_ms"] / max(1, disk["flushes"]), 2),
            },
            "redis_memory_mb": round(self.metrics.get("mcp_state_memory_used_bytes", 0) / 2**20, 1),
            "gateway_memory_mb": round(self.metrics.get("process_resident_memory_bytes", 0) / 2**20, 1),
            "cpu": shares,
        }


# Agents


def first_contents(path, lines):
    return "".join(f"{number:04}: {path} as it was first".ljust(63, ".") + "\n" for number in range(lines))


class Trial:
    """Tasks with files, agents that work on them, and what they were told."""

    def __init__(self, stack, gateway, options):
        self.stack, self.gateway, self.options = stack, gateway, options
        self.tasks = [f"task-{number}" for number in range(options.tasks)]
        self.paths = {f"src/part-{number}.txt": lines for number, lines in enumerate(LINES)}
        self.tally = Tally()
        self.rate = options.rate
        self.written = defaultdict(list)
        self.steps = defaultdict(dict)
        # Writes and steps without an answer: they may be there, or not.
        self.uncertain = 0
        self.outside = {}
        self.outside_seen = Counter()
        self.waits = set()
        self.stopped = False

    async def prepare(self):
        for task in self.tasks:
            await self.gateway.must("setup", "task_create", task_id=task, title=f"Load of {task}")
            for path, lines in self.paths.items():
                contents = first_contents(path, lines)
                made = await self.gateway.must("setup", "file_write", task_id=task, path=path, content=contents)
                self.written[task, path].append(made["version"])
        for number in range(self.options.agents):
            await self.gateway.must(f"agent-{number}", "join_collab", task_id=self.task_of(number), role="worker")

    def task_of(self, number):
        return self.tasks[number % len(self.tasks)]

    async def agent(self, number):
        agent = Agent(self, f"agent-{number}", self.task_of(number), random.Random(f"{self.options.seed} {number}"))
        due = time.perf_counter() + agent.random.random() / self.rate
        while not self.stopped:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self.stopped:
                break
            await agent.act()
            self.tally.actions += 1
            due += 1 / self.rate
            # What cannot be made up for is left out, and counts as not done.
            due = max(due, time.perf_counter() - 1)

    async def write_outside(self, connection):
        """Inserts a row about once a second as another program would, at no fixed phase."""
        tenant = await connection.fetchval("SELECT id FROM tenants WHERE slug = 'default'")
        number, chance = 0, random.Random(self.options.seed)
        while not self.stopped:
            await asyncio.sleep(chance.uniform(0.5, 1.5))
            if self.stopped:
                break
            self.outside[number] = time.perf_counter()
            await connection.execute(
                "INSERT INTO task_events (tenant_id, task_id, agent, data) VALUES ($1, $2, 'outside', $3)",
                tenant, self.tasks[0], json.dumps({"step": "outside", "number": number}),
            )
            number += 1

    async def follow_outside(self):
        after = 0
        while not self.stopped or len(self.outside_seen) < len(self.outside):
            answer = await self.gateway.call(
                "watcher", "subscribe_logs", task_id=self.tasks[0], after=after, wait_seconds=1
            )
            if not answer.is_ok:
                self.tally.note("subscribe_logs (waited)", answer)
                await asyncio.sleep(1)
                continue
            now = time.perf_counter()
            after = answer.body["after"]
            for event in answer.body["events"]:
                if event["agent"] == "outside":
                    number = event["data"]["number"]
                    self.outside_seen[number] += 1
                    self.tally.lags.append(now - self.outside[number])

    async def watch_client(self):
        """Notes how late this script itself is."""
        while not self.stopped:
            due = time.perf_counter() + 0.05
            await asyncio.sleep(0.05)
            self.tally.client_lags.append(time.perf_counter() - due)

    async def check(self):
        """Returns what is not as it was acknowledged."""
        wrong, counted = [], Counter()
        for task in self.tasks:
            after, events = 0, []
            while True:
                page = await self.gateway.must("checker", "subscribe_logs", task_id=task, after=after, limit=500)
                events += page["events"]
                after = page["after"]
                if not page["more"]:
                    break
            counted["events"] += len(events)
            if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
                wrong.append(f"{task}: the numbers of {len(events)} events have a gap or a repetition")
            found = Counter(event["stepId"] for event in events if event.get("stepId"))
            places = {event["stepId"]: event["seq"] for event in events if event.get("stepId")}
            acknowledged = self.steps[task]
            counted["acknowledged_steps"] += len(acknowledged)
            lost = [step for step, seq in acknowledged.items() if found[step] != 1 or places[step] != seq]
            if lost:
                wrong.append(f"{task}: {len(lost)} acknowledged steps are not there once with their number")
            extra = len(set(found) - set(acknowledged))
            if extra > self.uncertain:
                wrong.append(f"{task}: {extra} steps that no agent sent")
            files = await self.gateway.must("checker", "file_list", task_id=task)
            versions = {row["path"]: row["version"] for row in files["files"]}
            told = Counter(event["data"]["path"] for event in events if event["kind"] == "file_written")
            for path in self.paths:
                accepted, version = self.written[task, path], versions.get(path, 0)
                counted["accepted_writes"] += len(accepted)
                if sorted(set(accepted)) != sorted(accepted):
                    wrong.append(f"{task} {path}: a version was given to two writes")
                if not len(accepted) <= version <= len(accepted) + self.uncertain or told[path] != version:
                    wrong.append(
                        f"{task} {path}: version {version}, {len(accepted)} accepted writes, {told[path]} events"
                    )
        if any(self.outside_seen[number] != 1 for number in self.outside):
            odd = {number: self.outside_seen[number] for number in self.outside if self.outside_seen[number] != 1}
            wrong.append(f"rows of another program: {len(self.outside)} written, of which seen so often: {odd}")
        counted["outside_rows"] = len(self.outside)
        return wrong, dict(counted)


class Agent:
    def __init__(self, trial, name, task, chance):
        self.trial, self.name, self.task, self.random = trial, name, task, chance
        self.lease = None
        self.known = {}
        self.cursor = 0
        self.sent = 0
        self.actions = [action for action, weight in trial.options.mix.items() for _ in range(weight)]

    async def call(self, tool, shown=None, **arguments):
        trial = self.trial
        answer = await trial.gateway.call(self.name, tool, task_id=self.task, **arguments)
        trial.tally.note(shown or tool, answer)
        if not answer.is_ok and not answer.refusal:
            trial.uncertain += 1
        return answer

    async def act(self):
        await getattr(self, self.random.choice(self.actions))()

    def some_path(self):
        return self.random.choice(list(self.trial.paths))

    async def read(self, path=None):
        path = path or self.some_path()
        answer = await self.call("file_read", path=path)
        if answer.is_ok:
            self.known[path] = (answer.body["version"], answer.body["content"].splitlines())

    async def edit(self):
        """Replaces a line of the claimed file or of any, as it was when the agent last read it."""
        claimed = self.lease is not None and self.random.random() < 0.5
        path = self.lease[0] if claimed else self.some_path()
        if path not in self.known:
            return await self.read(path)
        version, lines = self.known[path]
        place = self.random.randrange(len(lines))
        self.sent += 1
        new = f"{place:04}: edit {self.sent} of {self.name}".ljust(63, ".")
        arguments = {"path": path, "edits": [{"old": lines[place], "new": new}]}
        if claimed and self.random.random() < 0.5:
            arguments["token"] = self.lease[1]
        if self.random.random() < VERSIONED:
            arguments["expected_version"] = version
        answer = await self.call("file_edit", **arguments)
        if answer.is_ok:
            self.trial.written[self.task, path].append(answer.body["version"])
            lines[place] = new
            self.known[path] = (answer.body["version"], lines)
        elif answer.refusal == "stale_token":
            self.lease = None
        elif answer.refusal != "lease_held":
            del self.known[path]

    async def claim(self):
        if self.lease is None:
            path = self.some_path()
            answer = await self.call("claim_file", path=path, ttl_seconds=LEASE_SECONDS)
            if answer.is_ok:
                self.lease = (path, answer.body["token"])
        else:
            (path, token), self.lease = self.lease, None
            await self.call("release_file", path=path, token=token)

    async def log(self):
        self.sent += 1
        step = f"{self.name}-{self.sent}"
        answer = await self.call(
            "log_step", step=f"step {self.sent} of {self.name}", status="done", step_id=step,
            data={"files": 1, "note": "a line about what was found and what comes next"},
        )
        if answer.is_ok:
            self.trial.steps[self.task][step] = answer.body["seq"]

    async def follow(self):
        if self.random.random() < WAITED:
            # The agent goes on meanwhile.
            waiting = asyncio.create_task(self.follow_waiting())
            self.trial.waits.add(waiting)
            waiting.add_done_callback(self.trial.waits.discard)
            return
        answer = await self.call("subscribe_logs", after=self.cursor, wait_seconds=0)
        if answer.is_ok:
            self.cursor = max(self.cursor, answer.body["after"])

    async def follow_waiting(self):
        newest = await self.call("subscribe_logs", after=self.cursor, wait_seconds=0)
        if newest.is_ok:
            self.cursor = max(self.cursor, newest.body["newest"])
            await self.call(
                "subscribe_logs", "subscribe_logs (waited)", after=self.cursor, wait_seconds=WAIT_SECONDS
            )


# Modes


@contextlib.asynccontextmanager
async def running(stack, gateway, options):
    """Agents at work, the outside writer and its follower."""
    trial = Trial(stack, gateway, options)
    await trial.prepare()
    writer, observer = await asyncpg.connect(stack.database), await asyncpg.connect(stack.database)
    others = [asyncio.create_task(work) for work in
              (trial.write_outside(writer), trial.follow_outside(), trial.watch_client())]
    agents = [asyncio.create_task(trial.agent(number)) for number in range(options.agents)]
    trial.observer = observer
    try:
        yield trial
        trial.stopped = True
        await asyncio.gather(*agents)
        await asyncio.gather(*trial.waits)
        await asyncio.wait_for(asyncio.gather(*others), 15)
    finally:
        trial.stopped = True
        for work in (*agents, *others):
            work.cancel()
        await writer.close()
        await observer.close()


async def span(trial, seconds):
    """Returns what happened in the next seconds."""
    before = last = await Figures.read(trial.gateway, trial.observer, trial.stack)
    trial.tally = tally = Tally()
    slices, known = [], Counter()
    until = time.perf_counter() + seconds
    while (left := until - time.perf_counter()) > 0:
        await asyncio.sleep(min(SLICE_SECONDS, left))
        if until - time.perf_counter() <= 0:
            trial.tally = Tally()
        now = await Figures.read(trial.gateway, trial.observer, trial.stack)
        slices.append(slice_of(tally, known, now.since(last)))
        last = now
    return tally, last.since(before) | {"slices": slices}


def slice_of(tally, known, figures):
    """A short span beside what else went on, to tell a busy machine from a slow gateway."""
    worst = 0.0
    for tool, times in list(tally.times.items()):
        part, known[tool] = times[known[tool]:], len(times)
        if part and not waited(tool):
            worst = max(worst, spread(part)["p95_ms"])
    return {
        "seconds": figures["seconds"], "worst_p95_ms": worst,
        "others_percent_of_a_core": figures["cpu"]["others_percent_of_a_core"],
        "wal_sync_ms": figures["database"]["wal_sync_ms"],
        **figures["disk_of_all_processes"],
    }


def shown(tally, figures, rate, agents):
    tools = {}
    for tool in sorted(tally.times):
        tools[tool] = spread(tally.times[tool]) | {"refused": dict(tally.refusals[tool])}
    return {
        "asked_actions_per_second": round(rate * agents, 1),
        "done_actions_per_second": round(tally.actions / figures["seconds"], 1),
        "tools": tools,
        "errors": dict(tally.errors),
        "examples": tally.examples,
        "sync_lag": spread(tally.lags),
        "client_lag": spread(tally.client_lags),
        **figures,
    }


def missed_bars(tally, report):
    missed = [f"p95 of {tool} is {times['p95_ms']} ms, not under {P95_MS:.0f}"
              for tool, times in report["tools"].items() if not waited(tool) and times["p95_ms"] >= P95_MS]
    if tally.errors:
        missed.append(f"errors: {dict(tally.errors)}")
    if report["done_actions_per_second"] < DONE * report["asked_actions_per_second"]:
        missed.append(
            f"{report['done_actions_per_second']} actions a second of {report['asked_actions_per_second']} asked"
        )
    if tally.lags and report["sync_lag"]["p95_ms"] >= SYNC_LAG_P95_MS:
        missed.append(f"sync lag p95 is {report['sync_lag']['p95_ms']} ms, not under {SYNC_LAG_P95_MS:.0f}")
    if report["log_transactions_per_second"] >= LOG_TRANSACTIONS_PER_SECOND:
        missed.append(f"{report['log_transactions_per_second']} transactions a second by log steps")
    if report["cache_hits"] + report["cache_misses"] and report["cache_hit_rate"] <= CACHE_HIT_RATE:
        missed.append(f"cache hit rate is {report['cache_hit_rate']:.1%}, not over {CACHE_HIT_RATE:.0%}")
    return missed


async def steady(stack, gateway, options):
    async with running(stack, gateway, options) as trial:
        tally, figures = await span(trial, options.seconds)
    report = shown(tally, figures, options.rate, options.agents)
    missed = missed_bars(tally, report)
    wrong, report["checked"] = await trial.check()
    return report, missed + wrong


async def saturate(stack, gateway, options):
    """Raises the rate until a bar of the step is missed twice, and names the last rate that held."""
    steps, held, missed = [], None, []
    async with running(stack, gateway, options) as trial:
        while True:
            for attempt in (1, 2):
                await asyncio.sleep(3)
                tally, figures = await span(trial, options.step_seconds)
                step = shown(tally, figures, trial.rate, options.agents)
                worst = max(times["p95_ms"] for tool, times in step["tools"].items() if not waited(tool))
                missed = [bar for bar in missed_bars(tally, step) if "sync lag" not in bar]
                steps.append(step | {"worst_p95_ms": worst, "missed": missed})
                say(f"  {trial.rate * options.agents:7.0f} actions/s asked, "
                    f"{step['done_actions_per_second']:7.0f} done, worst p95 {worst:6.1f} ms, "
                    f"sync lag p95 {step['sync_lag']['p95_ms']:5.0f} ms, others "
                    f"{step['cpu']['others_percent_of_a_core']:.0f} % of a core {'; '.join(missed)}")
                if not missed:
                    break
            if missed:
                break
            held = trial.rate
            trial.rate *= options.factor
    wrong, checked = await trial.check()
    report = {"steps": steps, "checked": checked, "held_actions_per_second": held and round(held * options.agents, 1)}
    return report, wrong + ([] if held else [f"{options.rate} actions a second each did not hold: {missed}"])


async def pair(stack, gateway, options):
    """The same units of work by one agent, and by two that share the task with claims."""
    rounds = []
    for number in range(options.rounds):
        alone, _ = await work_together(gateway, f"alone-{number}", ["solo"], options)
        both, refused = await work_together(gateway, f"pair-{number}", ["left", "right"], options)
        rounds.append({
            "one_agent_seconds": round(alone, 2), "two_agents_seconds": round(both, 2),
            "gain_percent": round(100 * (alone / both - 1), 1), "claims_refused": refused,
        })
        say(f"  round {number + 1}: one agent {alone:.2f} s, two agents {both:.2f} s, "
            f"{100 * (alone / both - 1):.0f} % more, {refused} claims refused")
    least = min(row["gain_percent"] for row in rounds)
    report = {"units": options.units, "files": len(LINES), "rounds": rounds, "least_gain_percent": least}
    missed = [] if least >= 100 * (PAIR_GAIN - 1) else [f"two agents did {least} % more, not 40 %"]
    return report, missed


async def work_together(gateway, task, agents, options):
    paths = {f"src/part-{number}.txt": lines for number, lines in enumerate(LINES)}
    await gateway.must("setup", "task_create", task_id=task, title="Units of work")
    for path, lines in paths.items():
        await gateway.must("setup", "file_write", task_id=task, path=path, content=first_contents(path, lines))
    for agent in agents:
        await gateway.must(agent, "join_collab", task_id=task, role="worker")
    chance = random.Random(options.seed)
    plan = [(unit, chance.choice(list(paths)), chance.uniform(0.5, 1.5) * options.think_ms / 1000)
            for unit in range(options.units)]
    todo, refused = list(plan), 0

    async def work(agent):
        nonlocal refused
        while todo:
            unit, path, pause = todo.pop(0)
            if len(agents) > 1:
                passed = [(unit, path, pause)]
                while True:
                    # A file that the other holds: another unit meanwhile; only the last ones wait.
                    wait = 0 if todo else 10
                    answer = await gateway.call(agent, "claim_file", task_id=task, path=path, wait_seconds=wait)
                    if answer.is_ok:
                        break
                    if answer.refusal != "lease_held":
                        raise SystemExit(f"claim_file: {answer.status} {answer.body}")
                    refused += 1
                    if todo:
                        unit, path, pause = todo.pop(0)
                        passed.append((unit, path, pause))
                todo[:0] = [given for given in passed if given[0] != unit]
            read = await gateway.must(agent, "file_read", task_id=task, path=path)
            line = read["content"].splitlines()[unit % paths[path]]
            await asyncio.sleep(pause)
            edit = {"old": line, "new": f"{unit % paths[path]:04}: unit {unit} of {agent}".ljust(63, ".")}
            await gateway.must(agent, "file_edit", task_id=task, path=path, edits=[edit],
                               expected_version=read["version"])
            await gateway.must(agent, "log_step", task_id=task, step=f"unit {unit}", step_id=f"unit-{unit}")
            if len(agents) > 1:
                await gateway.must(agent, "release_file", task_id=task, path=path)

    started = time.perf_counter()
    await asyncio.gather(*(work(agent) for agent in agents))
    seconds = time.perf_counter() - started
    files = (await gateway.must("checker", "file_list", task_id=task))["files"]
    writes = sum(row["version"] for row in files) - len(paths)
    events = (await gateway.must("checker", "subscribe_logs", task_id=task, limit=500))["events"]
    logged = {event["stepId"] for event in events if event.get("stepId")}
    if writes != options.units or logged != {f"unit-{unit}" for unit in range(options.units)}:
        raise SystemExit(f"{task}: {writes} writes and {len(logged)} steps of {options.units} units")
    return seconds, refused


# Command


def say(text):
    print(text, file=sys.stderr, flush=True)


def table(report):
    row = "  {:26} {:>7} {:>8} {:>8} {:>8} {:>9}  {}"
    say(row.format("tool", "calls", "p50 ms", "p95 ms", "p99 ms", "max ms", "refused"))
    for tool, times in report["tools"].items():
        refused = ", ".join(f"{name} {count}" for name, count in times["refused"].items())
        say(row.format(tool, times["calls"], times["p50_ms"], times["p95_ms"], times["p99_ms"],
                       times["max_ms"], refused or "-"))
    database, cpu = report["database"], report["cpu"]
    say(f"  actions/s {report['done_actions_per_second']} of {report['asked_actions_per_second']}, "
        f"errors {sum(report['errors'].values())}")
    say(f"  sync lag p50 {report['sync_lag']['p50_ms']} ms, p95 {report['sync_lag']['p95_ms']} ms, "
        f"{report['sync_lag']['calls']} rows")
    say(f"  log steps/s {report['log_steps_per_second']}, their transactions/s "
        f"{report['log_transactions_per_second']}; all that wrote/s {database['writing_transactions_per_second']}, "
        f"all/s {database['transactions_per_second']}, WAL {database['wal_kb_per_second']} KB/s")
    say(f"  cache hit rate {report['cache_hit_rate']:.2%} ({report['cache_hits']} of "
        f"{report['cache_hits'] + report['cache_misses']})")
    disk = report["disk_of_all_processes"]
    say(f"  WAL sync {database['wal_sync_ms']} ms, disk of all processes: {disk['written_mb_per_second']} MB/s, "
        f"{disk['flushes_per_second']} flushes/s of {disk['flush_ms']} ms")
    say("  processor, % of a core: " + ", ".join(
        f"{name.removesuffix('_percent_of_a_core')} {value}" for name, value in cpu.items()))


async def main(options):
    loads = [os.getloadavg()]
    busy, stolen = machine_cpu()
    await asyncio.sleep(2)
    before = (machine_cpu()[0] - busy) / 2 * 100
    mode, name = next(((mode, mode.__name__) for mode, wanted in
                       ((saturate, options.saturate), (pair, options.pair)) if wanted), (steady, "steady"))
    async with Stack(options.binary, options.pool) as stack, Gateway(stack) as gateway:
        health = await stack.within(30, gateway.health)
        if health.get("postgres") != "connected" or health.get("redis") != "connected":
            raise SystemExit(f"/health: {health}")
        say(f"{name}: load average {loads[0][0]:.2f}, {before:.0f} % of a core busy before the start")
        report, missed = await mode(stack, gateway, options)
        loads.append(os.getloadavg())
        log = (stack.dir / "gateway.log").read_text(errors="replace")
        warnings = [line for line in log.splitlines() if " WARN " in line or " ERROR " in line]
        version = stack.postgres_version
    if name == "steady":
        table(report)
    report = {
        "mode": name,
        "options": {key: value for key, value in vars(options).items() if key != "binary"},
        "machine": {
            "cores": os.cpu_count(), "postgresql": version, "busy_before_percent_of_a_core": round(before, 1),
            "load_before": loads[0][0], "load_after": loads[1][0],
        },
        **report,
        "gateway_warnings": {"count": len(warnings), "first": warnings[:5]},
        "missed": missed,
    }
    print(json.dumps(report, indent=2))
    for bar in missed:
        say(f"  MISSED: {bar}")
    return 1 if missed else 0


def mix(text):
    given = {name: int(weight) for name, _, weight in (part.partition("=") for part in text.split(","))}
    unknown = set(given) - set(ACTIONS)
    if unknown:
        raise argparse.ArgumentTypeError(f"actions are {', '.join(ACTIONS)}")
    return given


def options():
    parser = argparse.ArgumentParser(description="Load trial of collaboration.")
    parser.add_argument("--binary", required=True, help="gateway to start")
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=300, help="length of the trial")
    parser.add_argument("--rate", type=float, default=1.0, help="actions a second of each agent")
    parser.add_argument("--mix", type=mix, default=",".join(f"{name}=1" for name in ACTIONS),
                        help="weights of the actions")
    parser.add_argument("--pool", type=int, default=10, help="DB_POOL_MAX")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--saturate", action="store_true", help="raise the rate until a bar is missed")
    parser.add_argument("--step-seconds", type=float, default=20)
    parser.add_argument("--factor", type=float, default=1.3, help="from one rate to the next")
    parser.add_argument("--pair", action="store_true", help="two agents of one task against one")
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--think-ms", type=float, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def interrupted(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(options())))
