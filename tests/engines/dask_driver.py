"""Proof on Dask: tasks and bags whose workers are killed start each row once.

`python -m tests.engines.dask_driver`; `single` for the tasks alone, `parts` for the bag alone.

A scheduler and two workers, each of which has a nanny for each of its two processes. 20 tasks of
the example keep their checkpoints in the scheduler. Two tasks of Dask do each task at the same
time, with that store and with the Redis store. Then `dask_job.py` of `docs/stores.md` runs.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List

from distributed import Client

from examples.engines import dask_tasks
from tests.engines import stored_task
from tests.engines.partitions import JOB, Cluster, prove_both
from tests.engines.service import (
    KILLS,
    SETTLE_AFTER,
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


class Dask(Cluster):
    def __init__(self, folder: Path) -> None:
        port = free_port()
        address = f"tcp://127.0.0.1:{port}"
        # With the default of 3, a task ends when three workers died that it was given to.
        os.environ["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = str(2 * KILLS)
        os.environ["DASK_SCHEDULER_ADDRESS"] = address
        options = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        scheduler = Process("-m", "distributed.cli.dask_scheduler", *options)
        until(lambda: listens(port))
        each = ("--nworkers", "2", "--nthreads", "2", "--no-dashboard", "--memory-limit", "0")
        command = ("-m", "distributed.cli.dask_worker", address, *each)
        local = ("--local-directory", str(folder / "dask"))
        super().__init__(scheduler, [Process(*command, *local) for _ in range(2)])

    def submit(self, job: Path, output: Path) -> Process:
        return Process(str(job), JOB, folder=job.parent, output=output)

    def running(self) -> List[int]:
        return pids_where(self.workers, lambda command: b"multiprocessing.spawn" in command)


def one(customer: str, bare: bool) -> Any:
    """Run a task of the example, with shorter times or without its checkpoint."""
    checkpoint: Any = dask_tasks.Checkpoint
    if not isinstance(checkpoint, functools.partial):
        dask_tasks.Checkpoint = functools.partial(  # type: ignore[assignment,misc]
            checkpoint, settle_after=SETTLE_AFTER
        )
    if bare:
        dask_tasks.checkpoint_of = lambda task: None  # type: ignore[assignment,return-value]
    return dask_tasks.report(customer)


def prove_tasks(name: str, *, bare: bool) -> Dict[str, int]:
    """Run tasks, kill, and return the figures when all have ended."""
    with service(6.0) as fake, tempfile.TemporaryDirectory() as folder:
        with Dask(Path(folder)) as made, Client(os.environ["DASK_SCHEDULER_ADDRESS"]) as dask:
            customers = [f"task-{number}" for number in range(TASKS)]
            report_of = functools.partial(one, bare=bare)
            # They follow at once: without a checkpoint, eight are over before the service is back.
            futures = dask.map(report_of, customers, pure=False, retries=1000)
            kill_at_random(made, fake, 7)
            dask.gather(futures)
        return report(name, fake, TASKS, KILLS)


def two_at_once(name: str, do: Callable[[str], Any]) -> Dict[str, int]:
    """Have two tasks of Dask do each task at the same time, and return the figures."""
    with (
        service(2.0) as fake,
        redis_server() as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        os.environ["REDIS_URL"] = url
        with Dask(Path(folder)), Client(os.environ["DASK_SCHEDULER_ADDRESS"]) as dask:
            twice = [f"task-{number}" for number in range(TASKS) for _ in range(2)]
            dask.gather(dask.map(do, twice, pure=False))
        return report(name, fake, TASKS, 0)


def main() -> None:
    figures = []
    if "parts" not in sys.argv:
        figures.append(prove_tasks("Dask, processes and workers killed", bare=False))
        prove_tasks("the same without a checkpoint", bare=True)
        two_at_once("two workers at once, metadata", functools.partial(one, bare=False))
        figures.append(two_at_once("two workers at once, RedisStore", stored_task.report))
    if "single" not in sys.argv:
        figures.append(prove_both("Dask, a batch in each partition", "dask_job", Dask))
    proved(*figures)


if __name__ == "__main__":
    main()
