"""The example's jobs with shorter times, without a checkpoint if `BARE` is set, and a sensor.

The sensor requests a run for each task once.
"""

import functools
import os
from typing import Any, Iterator

from dagster import DefaultSensorStatus, Definitions, RunRequest, sensor

from examples.engines import dagster_op
from tests.engines.service import SETTLE_AFTER

# The example has the default of 60 s.
shorter: Any = functools.partial(dagster_op.Checkpoint, settle_after=SETTLE_AFTER)
setattr(dagster_op, "Checkpoint", shorter)  # noqa: B010
setattr(dagster_op, "ATTEMPTS", 9)  # noqa: B010 - one task may meet each kill
if os.environ.get("BARE"):
    setattr(dagster_op, "checkpoint_of", lambda context: None)  # noqa: B010


@sensor(
    job=dagster_op.reports, default_status=DefaultSensorStatus.RUNNING, minimum_interval_seconds=5
)
def tasks() -> Iterator[RunRequest]:
    """Request each run once: Dagster ignores a `run_key` that it has seen."""
    for number in range(int(os.environ["TASKS"])):
        config = {"ops": {"report": {"config": {"customer": f"task-{number}"}}}}
        yield RunRequest(run_key=f"task-{number}", run_config=config)


defs = Definitions(
    jobs=[dagster_op.reports, dagster_op.starts, dagster_op.results],
    sensors=[tasks, dagster_op.again, dagster_op.ended],
)
