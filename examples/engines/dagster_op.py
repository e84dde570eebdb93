"""A Dagster op that starts its workflow once: the state is a tag of the first run.

pip install dagster

Run tags are in Dagster's storage. A retried run has the tag `dagster/root_run_id`, so all retries
share the checkpoint of the first run. Tags do not compare and swap.
"""

import json
from typing import Any

from dagster import OpExecutionContext, RetryPolicy, job, op

from flowmaestro import Checkpoint, FlowMaestroClient


def checkpoint_of(context: OpExecutionContext) -> Checkpoint:
    """Return the checkpoint of one op, for its run and all retries of that."""
    run_id = context.run.tags.get("dagster/root_run_id", context.run_id)
    tag = f"flowmaestro/{context.op_handle}"

    def load() -> Any:
        run = context.instance.get_run_by_id(run_id)
        return json.loads(run.tags[tag]) if run and tag in run.tags else None

    def save(state: Any) -> None:
        context.instance.add_run_tags(run_id, {tag: json.dumps(state)})

    return Checkpoint(load, save, rerun=("failed",))


@op(config_schema={"customer": str}, retry_policy=RetryPolicy(max_retries=2))
def report(context: OpExecutionContext) -> Any:
    """Run the workflow of one customer."""
    with FlowMaestroClient() as client:
        inputs = {"task": context.op_config["customer"]}
        run = client.workflows.run(
            "wf_123", inputs, timeout=3000, checkpoint=checkpoint_of(context)
        )
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]


@job
def reports() -> None:
    """Run the op."""
    report()
