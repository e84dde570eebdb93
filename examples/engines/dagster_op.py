"""Dagster ops that start their workflow once: the state is a tag of the first run.

pip install flowmaestro dagster

The sensor `again` requests a run anew for each that failed or whose process died. `run_retries` of
Dagster does that, too, but only once: if the gRPC server is away just then, it gives up. A run of
the sensor has the id of the first run as a tag, so both share its checkpoint. Tags are in Dagster's
storage. They do not compare and swap.

`reports` occupies the process of its run while the workflow runs. `starts` does not: its run ends
when the execution has started. The sensor `ended` looks at all of them with a few requests, and
requests a run of `results` for each execution that has ended.
"""

import json
from datetime import datetime, timedelta, timezone
from typing import Any, Iterator

from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    OpExecutionContext,
    RetryPolicy,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    job,
    op,
    sensor,
)

from flowmaestro import Checkpoint, FlowMaestroClient

FIRST, ATTEMPT = "flowmaestro/first", "flowmaestro/attempt"
ATTEMPTS = 4


def checkpoint_of(context: OpExecutionContext) -> Checkpoint:
    """Return the checkpoint of one op, for a run and all that repeat it."""
    run_id = context.run.tags.get(FIRST, context.run_id)
    tag = f"flowmaestro/{context.op_handle}"
    # Compares and swaps: `import stores`, of `docs/stores.md`, and
    # return stores.redis_checkpoint(f"{run_id} {tag}")

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


STATE, EXECUTION = "flowmaestro/state", "flowmaestro/execution"


@op(config_schema={"customer": str}, retry_policy=RetryPolicy(max_retries=2))
def start(context: OpExecutionContext) -> None:
    """Start the workflow of one customer. The sensor finds the execution in the tags of the run."""
    with FlowMaestroClient() as client:
        inputs = {"task": context.op_config["customer"]}
        started = client.workflows.execute(
            "wf_123", inputs=inputs, checkpoint=checkpoint_of(context)
        )["data"]
    tags = {STATE: "started", EXECUTION: started["execution_id"]}
    context.instance.add_run_tags(context.run_id, tags)


@job
def starts() -> None:
    """Run the op."""
    start()


@op(config_schema={"execution": str, "run": str}, retry_policy=RetryPolicy(max_retries=2))
def result(context: OpExecutionContext) -> Any:
    """Return the outputs of an ended execution."""
    with FlowMaestroClient() as client:
        run = client.executions.get(context.op_config["execution"])["data"]
    context.instance.add_run_tags(context.op_config["run"], {STATE: "ended"})
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]


@job
def results() -> None:
    """Run the op."""
    result()


@sensor(job=results, minimum_interval_seconds=30, default_status=DefaultSensorStatus.RUNNING)
def ended(context: SensorEvaluationContext) -> Iterator[RunRequest]:
    """Request one run for each execution that has ended: Dagster ignores a `run_key` it knows."""
    started = RunsFilter(
        job_name="starts", statuses=[DagsterRunStatus.SUCCESS], tags={STATE: "started"}
    )
    runs = {run.tags[EXECUTION]: run.run_id for run in context.instance.get_runs(started)}
    if not runs:
        return
    with FlowMaestroClient() as client:
        # One look: what still runs then is an outcome with an error.
        for outcome in client.executions.wait_many(list(runs), timeout=0.1):
            if outcome.execution is not None:
                config = {"execution": outcome.execution_id, "run": runs[outcome.execution_id]}
                yield RunRequest(outcome.execution_id, {"ops": {"result": {"config": config}}})


@sensor(jobs=[reports, starts, results], default_status=DefaultSensorStatus.RUNNING)
def again(context: SensorEvaluationContext) -> Iterator[RunRequest]:
    """Request each run that has failed within a day once more, up to `ATTEMPTS` in all."""
    a_day_ago = datetime.now(timezone.utc) - timedelta(days=1)
    failed = RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=a_day_ago)
    for run in context.instance.get_runs(failed):
        attempt = int(run.tags.get(ATTEMPT, "1"))
        if run.job_name in ("reports", "starts", "results") and attempt < ATTEMPTS:
            tags = {FIRST: run.tags.get(FIRST, run.run_id), ATTEMPT: str(attempt + 1)}
            yield RunRequest(run.run_id, run.run_config, tags, job_name=run.job_name)
