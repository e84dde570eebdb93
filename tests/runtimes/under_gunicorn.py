"""Under `gunicorn --preload`: the client is made, and has called, before the workers fork."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Set
from urllib.request import urlopen

from outside import KEY, flowmaestro

WORKERS, REQUESTS = 3, 30
APP = """
import json, os

from flowmaestro import FlowMaestroClient

client = FlowMaestroClient()
master = os.getpid()
client.workflows.list()  # leaves a connection, which is the master's


def app(environ, start_response):
    call = client.workflows.execute("wf_long")["data"]["execution_id"]
    first = next(iter(client.executions.stream(call)))["type"]
    start_response("200 OK", [("Content-Type", "application/json")])
    seen = {"master": master, "pid": os.getpid(), "execution": call, "first": first}
    return [json.dumps(seen).encode()]
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, flowmaestro(Path(folder)) as url:
        (Path(folder) / "preloaded.py").write_text(APP)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.set_inheritable(True)
            where = f"http://127.0.0.1:{listener.getsockname()[1]}"
            command = [sys.executable, "-m", "gunicorn", "--preload", "--log-level", "warning"]
            command += ["--workers", str(WORKERS), "--bind", f"fd://{listener.fileno()}"]
            names = {"FLOWMAESTRO_API_KEY": KEY, "FLOWMAESTRO_BASE_URL": url, "HOME": folder}
            server = subprocess.Popen(
                [*command, "--chdir", folder, "preloaded:app"],
                env={**os.environ, **names},
                pass_fds=[listener.fileno()],
            )
            try:
                check_workers(where)
            finally:
                server.terminate()
                server.wait(60)
    assert server.returncode == 0, server.returncode


def check_workers(url: str) -> None:
    pids: Set[int] = set()
    executions: Set[str] = set()
    deadline = time.monotonic() + 240
    answered = 0
    while answered < REQUESTS or len(pids) < WORKERS:
        assert time.monotonic() < deadline, f"only {len(pids)} of {WORKERS} workers answered"
        with urlopen(url, timeout=30) as reply:
            seen = json.loads(reply.read())
        assert seen["pid"] != seen["master"]
        assert seen["first"]
        pids.add(seen["pid"])
        executions.add(seen["execution"])
        answered += 1
    assert len(executions) == answered, "two requests got the same reply"
    print(f"gunicorn: {answered} requests to {len(pids)} forked workers")


if __name__ == "__main__":
    main()
