"""Proof on Airflow 3.3: tasks whose processes and workers are killed start their workflows once.

`python -m tests.engines.airflow_driver`

The scheduler with its local executor, the API server, the DAG processor and the triggerer, with
SQLite. The DAG is triggered once. Processes of tasks are killed, and the scheduler with all of
them. The triggerer and the API server are killed once each, and the service is away for a while.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Dict, List

from tests.engines.service import (
    KILLS,
    ROOT,
    SETTLE_AFTER,
    Process,
    Workers,
    children_of,
    free_port,
    kill_at_random,
    prove_with_and_without,
    report,
    service,
    until,
)

DAG = "flowmaestro_reports"
MAPPED = 7
"""Customers; each is a task, an operator and a deferrable operator."""
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
EXAMPLES = ROOT / "examples" / "engines"
QUICKER = {
    "AIRFLOW__CORE__PARALLELISM": "6",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
}


def airflow(*arguments: str) -> str:
    """Run one command of Airflow, and return what it prints."""
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    if done.returncode:
        sys.exit(f"{arguments}: {done.stderr[-2000:]}")
    return done.stdout


def install(home: Path) -> None:
    """Copy the example, with shorter times, and without its checkpoints if `BARE` is set."""
    rerun = 'rerun=("failed",)'
    for name, folder in (("airflow_dag.py", "dags"), ("flowmaestro_airflow.py", "plugins")):
        text = (EXAMPLES / name).read_text()
        text = text.replace(rerun, f"{rerun}, settle_after={SETTLE_AFTER}")
        text = text.replace('"retries": 3', '"retries": 20')
        if os.environ.get("BARE"):
            text = text.replace("checkpoint=checkpoint", "").replace(', "checkpoint": kept', "")
        (home / folder).mkdir()
        (home / folder / name).write_text(text)


def state_of_run(home: Path) -> Any:
    """Return the state of the run of the DAG, from the database."""
    with contextlib.closing(sqlite3.connect(home / "airflow.db", timeout=60)) as database:
        rows = database.execute("SELECT state FROM dag_run WHERE dag_id = ?", (DAG,)).fetchall()
    return rows[0][0] if rows else None


class Scheduler(Workers):
    """The scheduler with its local executor: it forks workers, and each of these a task."""

    def running(self) -> List[int]:
        return [task for worker in super().running() for task in children_of(worker)]


def prove(name: str) -> Dict[str, int]:
    """Trigger the DAG, kill, and return the figures when it has succeeded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, service(20.0) as fake:
        home = Path(folder)
        install(home)
        port = str(free_port())
        os.environ.update(
            QUICKER,
            AIRFLOW_HOME=folder,
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"http://127.0.0.1:{port}/execution/",
            AIRFLOW__API_AUTH__JWT_SECRET="a secret of this proof, long enough for its signature",
            AIRFLOW__API__SECRET_KEY="another secret of this proof",
            AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
            CUSTOMERS=",".join(f"customer-{number}" for number in range(MAPPED)),
        )
        airflow("db", "migrate")
        parts: Dict[str, Process] = {}
        for part in PARTS:
            extra = ("--port", port, "--workers", "1") if part == "api-server" else ()
            parts[part] = Process("-m", "airflow", part, *extra)

        def restart() -> None:
            for part in ("triggerer", "api-server"):
                parts[part].kill()
                parts[part].start()
            health = f"http://127.0.0.1:{port}/api/v2/version"
            until(lambda: urllib.request.urlopen(health).status == 200, timeout=300)

        def ended() -> bool:
            time.sleep(5)
            return state_of_run(home) in ("success", "failed")

        try:
            until(lambda: DAG in airflow("dags", "list"), timeout=900)
            airflow("dags", "unpause", DAG)
            airflow("dags", "trigger", DAG)
            scheduler = Scheduler([parts["scheduler"]])
            kill_at_random(scheduler, fake, 7, pause=(2.0, 20.0), middle=restart)
            until(ended, timeout=1800)
            print(f"  the run of the DAG: {state_of_run(home)}", flush=True)
        finally:
            for each in parts.values():
                each.kill()
        return report(name, fake, 3 * MAPPED, KILLS)


def main() -> None:
    prove_with_and_without("Airflow", prove)


if __name__ == "__main__":
    main()
