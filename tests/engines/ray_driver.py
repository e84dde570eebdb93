"""Proof on Ray: a job and single tasks whose workers and nodes are killed start each row once.

`python -m tests.engines.ray_driver`; `python -m tests.engines.ray_driver single` for the tasks
alone, `parts` for the job alone.

A head without CPUs and two nodes of two CPUs run `ray_job.py` of `docs/stores.md`, and then 20
tasks with a run each.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Dict, List

from tests.engines import stored_task
from tests.engines.partitions import JOB, Cluster, prove_both
from tests.engines.service import (
    KILLS,
    Process,
    free_port,
    kill_at_random,
    listens,
    pids_where,
    proved,
    redis_server,
    report,
    service,
    until,
)

TASKS = 20
OTHERS = (b"ray::IDLE", b"ray::DashboardAgent", b"ray::RuntimeEnvAgent")
"""Titles of processes that run no task."""


def has_raylet(node: Process) -> bool:
    return bool(pids_where([node], lambda command: b"raylet/raylet" in command))


class Ray(Cluster):
    def __init__(self, folder: Path) -> None:
        port = str(free_port())
        os.environ.update(RAY_ADDRESS=f"127.0.0.1:{port}", RAY_USAGE_STATS_ENABLED="0")
        # The path of a socket may have 107 characters.
        options = ("--head", "--port", port, "--num-cpus", "0", "--temp-dir", str(folder / "ray"))
        super().__init__(self.node(*options, "--include-dashboard", "false"), [])
        until(lambda: listens(int(port)), timeout=300)
        for _ in range(2):  # Two that start at once may choose the same ports.
            node = self.worker()
            self.workers.append(node)
            until(lambda: has_raylet(node), timeout=120)  # noqa: B023 - called at once

    def node(self, *options: str) -> Process:
        small = ("--object-store-memory", "100000000", "--disable-usage-stats", "--block")
        # Nodes on one machine need different ports for their agents.
        agents = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent")
        ports = [f"--{name}-port={free_port()}" for name in (*agents, "metrics-export")]
        return Process("-m", "ray.scripts.scripts", "start", *options, *small, *ports)

    def worker(self) -> Process:
        return self.node("--address", os.environ["RAY_ADDRESS"], "--num-cpus", "2")

    def submit(self, job: Path, output: Path) -> Process:
        return Process(str(job), JOB, folder=job.parent, output=output)

    def running(self) -> List[int]:
        return pids_where(
            self.workers, lambda title: title.startswith(b"ray::") and not title.startswith(OTHERS)
        )


def tasks() -> None:
    """Run each task in a task of Ray, in a process of its own."""
    import ray

    ray.init(address="auto")
    # Without `retry_exceptions` a task that fails because the service is away ends the job.
    # Such attempts count as deaths do.
    report_of = ray.remote(max_retries=1000, retry_exceptions=True)(stored_task.report)
    ray.get([report_of.remote(f"task {number}") for number in range(TASKS)])


def prove_tasks(name: str) -> Dict[str, int]:
    """Run tasks, kill, and return the figures when all have ended."""
    with (
        service(6.0) as fake,
        redis_server() as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        os.environ["REDIS_URL"] = url
        with Ray(Path(folder)) as made:  # Its processes have this environment.
            driver = Process("-m", "tests.engines.ray_driver", "child")
            try:
                kill_at_random(made, fake, 7)
                until(lambda: made.supervised() and driver.has_ended, timeout=600)
                driver.end()
            finally:
                driver.kill()
        return report(name, fake, TASKS, KILLS)


def main() -> None:
    figures = []
    if "single" not in sys.argv:
        figures.append(prove_both("Ray, a batch in each partition", "ray_job", Ray))
    if "parts" not in sys.argv:
        figures.append(prove_tasks("Ray, processes and nodes killed"))
        os.environ["BARE"] = "1"
        prove_tasks("the same without a checkpoint")
    proved(*figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        tasks()
    else:
        main()
