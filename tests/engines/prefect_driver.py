"""Proof on Prefect: flow runs whose processes and workers are killed start their workflows once.

`python -m tests.engines.prefect_driver`

A server with its database on disk, two workers that run each flow run in a process, and
`examples/engines/prefect_run_again.py`. Each flow run is created once. Processes and workers with
all their processes are killed, the service is away for a while, and the server is killed once and
started again. A supervisor starts workers that have ended, since a worker ends if the server is
away.
"""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
import time
import urllib.request
from collections import Counter
from typing import Any, Dict, List

from tests.engines.service import (
    KILLS,
    ROOT,
    Process,
    Workers,
    free_port,
    kill_at_random,
    prove_with_and_without,
    report,
    service,
    until,
)

POOL = "processes"
TASKS = 20


def worker(number: int) -> Process:
    options = ("--pool", POOL, "--name", f"worker-{number}", "--limit", "2", "--type", "process")
    return Process("-m", "prefect", "worker", "start", *options, "--install-policy", "never")


async def create(days: List[str]) -> None:
    """Make the work pool and the deployment, then each flow run once."""
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    entrypoint = "tests/engines/prefect_app.py:report"
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
        loaded: Any = await flow.from_source(source=str(ROOT), entrypoint=entrypoint)
        deployment: Any = await loaded.deploy(
            name="proof", work_pool_name=POOL, print_next_steps=False, ignore_warnings=True
        )
        for day in days:
            await client.create_flow_run_from_deployment(deployment, parameters={"day": day})


async def states(days: List[str]) -> Dict[str, int]:
    """Return how many of the flow runs are in each state."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        runs = await client.read_flow_runs()
    return Counter(run.state_name or "" for run in runs if run.parameters["day"] in days)


class Supervised(Workers):
    """Two workers, and the process that schedules flow runs again."""

    def __init__(self) -> None:
        super().__init__([worker(number) for number in range(2)])
        self.again = Process("-m", "examples.engines.prefect_run_again")

    def restart_ended(self) -> None:
        super().restart_ended()
        if self.again.has_ended:
            self.again.start()

    def end(self) -> None:
        super().end()
        self.again.kill()


def prove(name: str, *, server: Process, health: str) -> Dict[str, int]:
    """Create flow runs, kill, and return the figures when all have ended."""
    days = [f"{'bare' if os.environ.get('BARE') else 'day'}-{number}" for number in range(TASKS)]
    begun = time.monotonic()

    def restart() -> None:
        server.kill()
        server.start()
        until(lambda: urllib.request.urlopen(health).status == 200, timeout=300)

    with service(30.0) as fake:
        asyncio.run(create(days))

        def ended() -> bool:
            workers.restart_ended()
            counts = asyncio.run(states(days))
            seconds = time.monotonic() - begun
            print(f"  {seconds:.0f} s: {dict(counts)}, {len(fake.executions)} started", flush=True)
            time.sleep(10)
            return counts["Completed"] == TASKS

        with Supervised() as workers:
            kill_at_random(workers, fake, 7, pause=(2.0, 12.0), middle=restart)
            until(ended, timeout=1200)
        return report(name, fake, TASKS, KILLS)


def main() -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ.update(
            PREFECT_HOME=home,
            PREFECT_LOGGING_LEVEL="ERROR",
            PREFECT_SERVER_ANALYTICS_ENABLED="0",
            PREFECT_API_DATABASE_TIMEOUT="60",
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY="30",  # Prefect allows no less.
        )
        server = Process("-m", "prefect", "server", "start", "--port", str(port))
        health = f"http://127.0.0.1:{port}/api/health"
        try:
            until(lambda: urllib.request.urlopen(health).status == 200, timeout=300)
            os.environ["PREFECT_API_URL"] = health.rpartition("/")[0]
            prove_with_and_without(
                "Prefect", functools.partial(prove, server=server, health=health)
            )
        finally:
            server.kill()


if __name__ == "__main__":
    main()
