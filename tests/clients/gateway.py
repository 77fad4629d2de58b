"""A gateway for the time of a trial: on a free port, with its data and its log in a scratch directory."""

import json
import os
import subprocess
import sys
import time


def start(program, scratch, **settings):
    """Starts the gateway; its process and its address as its line `listening` says it."""
    log = (scratch / "log").open("w+b")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(scratch), "PORT": "0", "METRICS_PORT": "0", "LOG_FORMAT": "json",
        "DATA_DIR": str(scratch / "data"), **settings,
    }
    process = subprocess.Popen([program], env=environment, cwd=scratch, stdout=log, stderr=log)
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        for line in (scratch / "log").read_text().splitlines():
            if '"listening"' in line:
                return process, json.loads(line)["address"]
        time.sleep(0.02)
    sys.exit("the gateway did not come up:\n" + (scratch / "log").read_text())


def stop(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
