"""Proof on Dagster: runs whose processes are killed start their workflows once.

`python -m tests.engines.dagster_driver`
"""

from __future__ import annotations

import functools
import os
import random
import sys
import tempfile
import uuid
from typing import Any

from tests.engines.service import (
    SETTLE_AFTER,
    Process,
    kill_once_each,
    proved,
    report,
    service,
)


def child(task: str, attempt: int) -> None:
    """Make one run in this process: the first one, or a retry of it, as Dagster makes them."""
    from dagster import DagsterInstance

    from examples.engines import dagster_op

    checkpoint: Any = dagster_op.Checkpoint
    shorter: Any = functools.partial(checkpoint, settle_after=SETTLE_AFTER)
    dagster_op.Checkpoint = shorter  # type: ignore[misc]
    if os.environ.get("BARE"):
        dagster_op.checkpoint_of = lambda context: None  # type: ignore[assignment,return-value]
    first = str(uuid.uuid5(uuid.NAMESPACE_URL, task + os.environ.get("BARE", "")))
    tags = {} if attempt == 1 else {"dagster/root_run_id": first, "dagster/parent_run_id": first}
    config = {"ops": {"report": {"config": {"customer": task}}}}
    run_id = first if attempt == 1 else str(uuid.uuid4())
    with DagsterInstance.get() as instance:
        dagster_op.reports.execute_in_process(config, instance=instance, tags=tags, run_id=run_id)


def start(task: str, attempt: int) -> Process:
    return Process("-m", "tests.engines.dagster_driver", "child", task, str(attempt))


def main() -> None:
    count = 3 if "few" in sys.argv else 10
    tasks = [f"task-{number}" for number in range(count)]
    with tempfile.TemporaryDirectory() as home:
        os.environ["DAGSTER_HOME"] = home
        with service(3.0) as fake:
            kills = kill_once_each(fake, tasks, start, random.Random(7))
            figures = report("Dagster, processes killed", fake, count, kills)
        os.environ["BARE"] = "1"
        with service(3.0) as fake:
            kills = kill_once_each(fake, tasks, start, random.Random(7))
            report("the same without a checkpoint", fake, count, kills)
    proved(figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
