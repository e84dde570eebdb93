"""Proof on Airflow 3.3: tasks whose processes are killed start their workflows once.

`python -m tests.engines.airflow_driver`

It runs the scheduler with its local executor, the API server, the DAG processor and the triggerer,
with SQLite. It kills the process of each running task once, and the triggerer once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.engines.service import (
    ROOT,
    Process,
    children_of,
    free_port,
    ledger,
    proved,
    report,
    service,
    until,
)

DAG = "flowmaestro_reports"
TASKS = 5
PARTS = (
    ("api-server",),
    ("scheduler",),
    ("dag-processor",),
    ("triggerer",),
)


def airflow(*arguments: str) -> str:
    """Run one command of Airflow, and return what it prints."""
    command = [sys.executable, "-m", "airflow", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=900)
    if done.returncode:
        sys.exit(f"{arguments}: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as home, service(20.0) as fake:
        examples = ROOT / "examples" / "engines"
        for name in ("dags", "plugins"):
            (Path(home) / name).mkdir()
        shutil.copy(examples / "airflow_dag.py", Path(home) / "dags")
        shutil.copy(examples / "flowmaestro_airflow.py", Path(home) / "plugins")
        port = str(free_port())
        os.environ.update(
            AIRFLOW_HOME=home,
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            AIRFLOW__CORE__EXECUTION_API_SERVER_URL=f"http://127.0.0.1:{port}/execution/",
            AIRFLOW__API_AUTH__JWT_SECRET="a secret of this proof, long enough for its signature",
            AIRFLOW__API__SECRET_KEY="another secret of this proof",
            AIRFLOW__CORE__PARALLELISM="6",
            AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        )
        airflow("db", "migrate")
        parts = {}
        try:
            for (name,) in PARTS:
                extra = ("--port", port, "--workers", "1") if name == "api-server" else ()
                parts[name] = Process("-m", "airflow", name, *extra)
            until(lambda: DAG in airflow("dags", "list"), timeout=900)
            airflow("dags", "unpause", DAG)
            airflow("dags", "trigger", DAG)
            kills = 0
            until(lambda: len(fake.executions) >= TASKS - 1, timeout=900)
            # The scheduler forks workers, and each of these the process of a task.
            for worker in parts["scheduler"].children:
                for task in children_of(worker):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(task, signal.SIGKILL)
                        kills += 1
            time.sleep(2)
            parts["triggerer"].kill()
            parts["triggerer"].start()
            kills += 1
            until(
                lambda: '"success"' in airflow("dags", "list-runs", DAG, "-o", "json"), timeout=1800
            )
            figures = report("Airflow, tasks and triggerer killed", fake, TASKS, kills)
            print(ledger(fake))
        finally:
            for part in parts.values():
                part.kill()
    proved(figures)


if __name__ == "__main__":
    main()
