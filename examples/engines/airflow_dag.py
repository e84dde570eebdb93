"""An Airflow DAG whose tasks start their workflows once: a mapped `@task`, and the operator.

pip install "apache-airflow>=3.3"; copy `flowmaestro_airflow.py` to `plugins/`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, task
from airflow.sdk.execution_time.context import NEVER_EXPIRE
from flowmaestro_airflow import RunWorkflowOperator

from flowmaestro import Checkpoint, FlowMaestroClient

with DAG("flowmaestro_reports", start_date=datetime(2026, 1, 1), schedule=None) as dag:
    retried: Any = {"retries": 3, "retry_delay": timedelta(seconds=5)}

    @task(**retried)
    def report(customer: str, task_state_store: Any = None) -> Any:
        """Run the workflow of one customer."""
        checkpoint = Checkpoint(
            lambda: task_state_store.get("flowmaestro"),
            lambda state: task_state_store.set("flowmaestro", state, retention=NEVER_EXPIRE),
            rerun=("failed",),
        )
        with FlowMaestroClient() as client:
            run = client.workflows.run(
                "wf_123", {"task": customer}, timeout=3600, checkpoint=checkpoint
            )
        return run["outputs"]

    report.expand(customer=["Ada", "Grace", "Edsger"])
    for deferrable in (False, True):
        RunWorkflowOperator(
            task_id=f"deferrable_{deferrable}".lower(),
            workflow_id="wf_123",
            inputs={"day": "{{ run_id }}"},
            deferrable=deferrable,
            **retried,
        )
