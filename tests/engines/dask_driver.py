"""Proof on Dask: tasks whose workers are killed start their workflows once.

`python -m tests.engines.dask_driver`
"""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import threading
import time
from typing import Any

from distributed import Client, LocalCluster

from examples.engines import dask_tasks
from tests.engines.service import SETTLE_AFTER, proved, report, service


def shorter(*, bare: bool) -> None:
    """Give the example shorter times on a worker, or take its checkpoint away."""
    checkpoint: Any = dask_tasks.Checkpoint
    if not isinstance(checkpoint, functools.partial):
        dask_tasks.Checkpoint = functools.partial(  # type: ignore[assignment,misc]
            checkpoint, settle_after=SETTLE_AFTER
        )
    if bare:
        dask_tasks.checkpoint_of = lambda task: None  # type: ignore[assignment,return-value]


def one(customer: str, bare: bool) -> Any:
    shorter(bare=bare)
    return dask_tasks.report(customer)


def prove(name: str, *, tasks: int, kills: int, bare: bool) -> Any:
    rng = random.Random(7)
    done = 0
    with (
        service(1.0) as fake,
        LocalCluster(n_workers=3, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster) as dask,
    ):

        def kill() -> None:
            nonlocal done
            while done < kills:
                time.sleep(rng.uniform(1.0, 4.0))
                victims = [it.pid for it in cluster.workers.values() if getattr(it, "pid", None)]
                if victims:
                    os.kill(rng.choice(victims), signal.SIGKILL)
                    done += 1

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        customers = [f"task-{number}" for number in range(tasks)]
        futures = dask.map(
            functools.partial(one, bare=bare), customers, pure=False, retries=2 * kills
        )
        dask.gather(futures)
        return report(name, fake, tasks, done)


def main() -> None:
    few = "few" in sys.argv
    tasks, kills = (12, 4) if few else (40, 10)
    figures = prove("Dask, workers killed", tasks=tasks, kills=kills, bare=False)
    prove("the same without a checkpoint", tasks=tasks, kills=kills, bare=True)
    proved(figures)


if __name__ == "__main__":
    main()
