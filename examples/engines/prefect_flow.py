"""A Prefect flow that starts its workflow once for each day: the state is a Prefect `Variable`.

pip install flowmaestro 'prefect>=3.9'

prefect server start
prefect work-pool create runs --type process
prefect --no-prompt deploy prefect_flow.py:report --name nightly --pool runs
prefect worker start --pool runs --limit 2
python prefect_run_again.py
prefect deployment run report/nightly --param day=2026-12-01

All but the first need `PREFECT_API_URL`, here http://127.0.0.1:4200/api. The workers also need
`PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30` and `FLOWMAESTRO_API_KEY`. Run as many as you want.

Variables are in the database of the Prefect server, so they survive every worker. They do not
compare and swap: let no two flow runs of one day run at the same time.
"""

from __future__ import annotations

from typing import Any, cast

from prefect import flow
from prefect.variables import Variable

from flowmaestro import Checkpoint, FlowMaestroClient


def checkpoint_of(name: str) -> Checkpoint:
    """Return the checkpoint of one unit of work; a name has small letters, digits, `_` and `-`."""
    # Compares and swaps: `import stores`, of `docs/stores.md`, and
    # return stores.redis_checkpoint(name)

    def load() -> Any:
        return cast("Any", Variable.get(name))

    return Checkpoint(
        load, lambda state: Variable.set(name, state, overwrite=True), rerun=("failed",)
    )


@flow(retries=2, persist_result=False)
def report(day: str) -> Any:
    """Run the workflow of one day."""
    with FlowMaestroClient() as client:
        checkpoint = checkpoint_of(f"flowmaestro-report-{day}")
        run = client.workflows.run("wf_123", {"task": day}, timeout=3000, checkpoint=checkpoint)
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]
