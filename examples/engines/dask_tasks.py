"""Dask tasks that start their workflows once: the state is in the metadata of the scheduler.

pip install distributed

The scheduler survives its workers, and repeats the tasks of a worker that died. If the scheduler
dies, the states are gone with it: use a store outside then.
"""

from __future__ import annotations

from typing import Any, List

from distributed import Client, get_client

from flowmaestro import Checkpoint, FlowMaestroClient


def checkpoint_of(task: str) -> Checkpoint:
    """Return the checkpoint of one task."""
    # Compares and swaps, and survives the scheduler: `import stores`, of `docs/stores.md`, and
    # return stores.redis_checkpoint(task)
    scheduler: Any = get_client()
    key = ["flowmaestro", task]
    return Checkpoint(
        lambda: scheduler.get_metadata(key, default=None),
        lambda state: scheduler.set_metadata(key, state),
        rerun=("failed",),
    )


def report(customer: str) -> Any:
    """Run the workflow of one customer, on a worker."""
    with FlowMaestroClient() as client:
        run = client.workflows.run(
            "wf_123", {"task": customer}, timeout=3000, checkpoint=checkpoint_of(customer)
        )
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]


def reports(dask: Client, customers: List[str]) -> Any:
    """Run a workflow for each customer, on all workers."""
    return dask.gather(dask.map(report, customers, pure=False, retries=2))
