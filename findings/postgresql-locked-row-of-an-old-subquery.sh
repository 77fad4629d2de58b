#!/usr/bin/env bash
# PostgreSQL 16.2 (the server in pgserver 0.1.4 from PyPI, by psycopg 3.2.13): `SELECT … FOR UPDATE` that waited for a
# row judges the new row again, but not the subqueries of its WHERE: those still see the statement's snapshot. A
# job queue that takes "the oldest pending job without an unfinished dependency" hands out a job to which a
# dependency was added, in the same transaction that held its row, before the lock was granted.
#
# Seen: "taken: job 1, although it waits for: job 2, ready by a new statement: none".
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pgserver==0.1.4 'psycopg[binary]==3.2.13'
cat >trial.py <<'PY'
import pathlib
import threading
import time

import pgserver
import psycopg

server = pgserver.get_server(pathlib.Path("data").absolute(), cleanup_mode="delete")
uri = server.get_uri()
READY = """SELECT id FROM job WHERE state = 'pending'
    AND id NOT IN (SELECT job FROM needs WHERE other NOT IN (SELECT id FROM job WHERE state = 'done'))
    ORDER BY id LIMIT 1"""
with psycopg.connect(uri, autocommit=True) as setup:
    setup.execute("CREATE TABLE job (id int PRIMARY KEY, state text, touched int DEFAULT 0)")
    setup.execute("CREATE TABLE needs (job int, other int)")
    setup.execute("INSERT INTO job VALUES (1, 'pending'), (2, 'running')")
    writer = psycopg.connect(uri)
    writer.execute("UPDATE job SET touched = 1 WHERE id = 1")
    writer.execute("INSERT INTO needs VALUES (1, 2)")
    taken = []
    worker = psycopg.connect(uri)
    taker = threading.Thread(target=lambda: taken.append(worker.execute(READY + " FOR UPDATE").fetchone()))
    taker.start()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while setup.execute(waits).fetchone()[0] == 0:
        time.sleep(0.05)
    writer.commit()
    taker.join()
    [(job,)] = taken
    other = worker.execute("SELECT other FROM needs WHERE job = %s", [job]).fetchone()[0]
    again = worker.execute(READY).fetchone()
    worker.close()
    writer.close()
    print(f"taken: job {job}, although it waits for: job {other}, ready by a new statement: {'none' if again is None else again[0]}")
server.cleanup()
PY
seen="$(timeout 120 venv/bin/python trial.py)"
echo "PostgreSQL 16.2: $seen"
expected="taken: job 1, although it waits for: job 2, ready by a new statement: none"
[ "$seen" = "$expected" ] || { echo "this has changed; it was: $expected" >&2; exit 1; }
