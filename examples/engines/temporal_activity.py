"""A Temporal activity that starts its workflow once: the state is the details of its heartbeats.

pip install temporalio

Each beat carries the state, because a bare `activity.heartbeat()` erases the details. The worker
sends beats with a delay, so the first one may be lost: on a later attempt without details, the
state says that a start may have been made since the activity was scheduled.

`heartbeat_timeout` switches the repetition on: if no beat arrives for so long, Temporal gives the
activity to another worker. Without it, Temporal waits for `start_to_close_timeout`. An activity
without a retry policy is repeated until it succeeds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import timedelta
from typing import Any, Dict, Optional

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from flowmaestro import AsyncFlowMaestroClient, Checkpoint

QUEUE = "reports"
HEARTBEAT_TIMEOUT = timedelta(seconds=float(os.environ.get("HEARTBEAT_TIMEOUT", "60")))


@activity.defn
async def report(customer: str) -> Any:
    """Run the workflow of one customer."""
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
        async with AsyncFlowMaestroClient() as client:
            checkpoint = Checkpoint(lambda: state, save, rerun=("failed",))
            inputs = {"customer": customer, "task": f"{info.workflow_run_id}-{info.activity_id}"}
            run = await client.workflows.run("wf_123", inputs, timeout=3000, checkpoint=checkpoint)
    finally:
        beats.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beats
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]


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


async def work() -> None:
    """Run a worker until the process is ended."""
    client = await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))
    await Worker(client, task_queue=QUEUE, workflows=[Reports], activities=[report]).run()


if __name__ == "__main__":
    asyncio.run(work())
