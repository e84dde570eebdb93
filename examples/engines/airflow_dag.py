"""An Airflow DAG whose tasks start their workflows once: mapped `@task`s, and mapped operators.

pip install "apache-airflow>=3.3"; copy `flowmaestro_airflow.py` to `plugins/`.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task
from airflow.sdk.execution_time.context import NEVER_EXPIRE
from flowmaestro_airflow import RunWorkflowOperator

from flowmaestro import Checkpoint, FlowMaestroClient

CUSTOMERS = os.environ.get("CUSTOMERS", "Ada,Grace,Edsger").split(",")

with DAG("flowmaestro_reports", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    retried: Any = {"retries": 3, "retry_delay": timedelta(seconds=5)}

    @task(**retried)
    def report(customer: str, task_state_store: Any = None, run_id: Any = None) -> Any:
        """Run the workflow of one customer."""
        name = f"{run_id} {customer}"
        # Compares and swaps: `import stores`, of `docs/stores.md`, in `plugins/`, and
        # checkpoint = stores.redis_checkpoint(name)
        checkpoint = Checkpoint(
            lambda: task_state_store.get("flowmaestro"),
            lambda state: task_state_store.set("flowmaestro", state, retention=NEVER_EXPIRE),
            rerun=("failed",),
        )
        with FlowMaestroClient() as client:
            run = client.workflows.run(
                "wf_123", {"task": name}, timeout=3600, checkpoint=checkpoint
            )
        if run["status"] != "completed":
            raise RuntimeError(run["error"])
        return run["outputs"]

    report.expand(customer=CUSTOMERS)
    for deferrable in (False, True):
        RunWorkflowOperator.partial(
            task_id=f"deferrable_{deferrable}".lower(),
            workflow_id="wf_123",
            deferrable=deferrable,
            **retried,
        ).expand(inputs=[{"customer": customer, "run": "{{ run_id }}"} for customer in CUSTOMERS])
