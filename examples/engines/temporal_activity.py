"""Temporal activities that start their workflow once: the state is the details of heartbeats.

pip install temporalio

Each beat carries the state, because a bare `activity.heartbeat()` erases the details. The worker
sends beats with a delay, so the first one may be lost: on a later attempt without details, the
state says that a start may have been made since the activity was scheduled.

`heartbeat_timeout` switches the repetition on: if no beat arrives for so long, Temporal gives the
activity to another worker. Without it, Temporal waits for `start_to_close_timeout`. An activity
without a retry policy is repeated until it succeeds.

`Reports` occupies a slot for activities while the workflow of FlowMaestro runs. `ReportsInSteps`
does not: it starts the execution, then polls it with one short attempt every 30 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import timedelta
from typing import Any, AsyncIterator, Dict, Optional

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from flowmaestro import AsyncFlowMaestroClient, Checkpoint

QUEUE = "reports"
HEARTBEAT_TIMEOUT = timedelta(seconds=float(os.environ.get("HEARTBEAT_TIMEOUT", "60")))
STEP = timedelta(seconds=float(os.environ.get("STEP", "30")))


def this_task() -> str:
    """Return an id that all attempts of this activity share."""
    info = activity.info()
    return f"{info.workflow_run_id}-{info.activity_id}"


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[Checkpoint]:
    """Yield the checkpoint of this activity, and beat with its state meanwhile."""
    info = activity.info()
    state: Optional[Dict[str, Any]] = info.heartbeat_details[0] if info.heartbeat_details else None
    if state is None and info.attempt > 1:
        state = {"v": 1, "state": "starting", "at": info.scheduled_time.timestamp()}

    def save(new: Dict[str, Any]) -> None:
        nonlocal state
        state = new
        activity.heartbeat(state)

    async def beat() -> None:
        while True:
            await asyncio.sleep(10)
            if state is not None:
                activity.heartbeat(state)

    beats = asyncio.ensure_future(beat())
    try:
        # Compares and swaps: `import stores`, of `docs/stores.md`, and
        # yield stores.redis_checkpoint(this_task())
        yield Checkpoint(lambda: state, save, rerun=("failed",))
    finally:
        beats.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beats


@activity.defn
async def report(customer: str) -> Any:
    """Run the workflow of one customer."""
    async with beating() as checkpoint, AsyncFlowMaestroClient() as client:
        inputs = {"customer": customer, "task": this_task()}
        run = await client.workflows.run("wf_123", inputs, timeout=3000, checkpoint=checkpoint)
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]


@activity.defn
async def start(customer: str) -> str:
    """Start the workflow of one customer. Return the id of its execution."""
    async with beating() as checkpoint, AsyncFlowMaestroClient() as client:
        inputs = {"customer": customer, "task": this_task()}
        started = await client.workflows.execute("wf_123", inputs=inputs, checkpoint=checkpoint)
    return started["data"]["execution_id"]


@activity.defn
async def outputs_of(execution_id: str) -> Any:
    """Return the outputs of an execution. If it still runs, fail until the next attempt."""
    async with AsyncFlowMaestroClient() as client:
        run = (await client.executions.get(execution_id))["data"]
    if run["status"] == "completed":
        return run["outputs"]
    if run["status"] in ("failed", "cancelled"):
        raise ApplicationError(str(run["error"]), non_retryable=True)
    raise ApplicationError("it still runs", next_retry_delay=STEP)


@workflow.defn
class Reports:
    """Run the workflow of one customer."""

    @workflow.run
    async def run(self, customer: str) -> Any:
        """Run the activity until it succeeds."""
        return await workflow.execute_activity(
            report,
            customer,
            start_to_close_timeout=timedelta(hours=1),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
        )


@workflow.defn
class ReportsInSteps:
    """Run the workflow of one customer; no activity runs meanwhile."""

    @workflow.run
    async def run(self, customer: str) -> Any:
        """Start the execution, then poll it until it has ended."""
        execution_id = await workflow.execute_activity(
            start,
            customer,
            start_to_close_timeout=timedelta(minutes=10),
            heartbeat_timeout=HEARTBEAT_TIMEOUT,
        )
        return await workflow.execute_activity(
            outputs_of,
            execution_id,
            start_to_close_timeout=timedelta(minutes=2),
            schedule_to_close_timeout=timedelta(hours=1),
        )


async def work(**options: Any) -> None:
    """Run a worker until the process is ended."""
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    activities = [report, start, outputs_of]
    workflows = [Reports, ReportsInSteps]
    await Worker(
        client, task_queue=QUEUE, workflows=workflows, activities=activities, **options
    ).run()


if __name__ == "__main__":
    asyncio.run(work())
