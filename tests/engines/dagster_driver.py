"""Proof on Dagster: runs whose processes and gRPC servers are killed start their workflows once.

`python -m tests.engines.dagster_driver`

The daemon, and a gRPC server that runs each run in a process. A sensor requests each run once; the
sensor `again` of the example repeats it. Processes of runs and the gRPC server with all its
processes are killed, the service is away for a while, and the daemon is killed once and started
again. Dagster does not notice that a gRPC server has died: the runs that it had are `STARTED` until
`max_runtime_seconds` of `run_monitoring` are over. The driver counts the requests of the sensor
`ended`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from dagster import DagsterInstance, DagsterRunStatus, build_sensor_context

from examples.engines import dagster_op
from tests.engines.service import (
    KILLS,
    Process,
    Workers,
    free_port,
    kill_at_random,
    pids_where,
    prove_with_and_without,
    report,
    service,
    until,
)

TASKS = 20
INSTANCE = """
run_monitoring:
  enabled: true
  poll_interval_seconds: 5
  max_runtime_seconds: 120
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 4
    dequeue_interval_seconds: 2
    max_user_code_failure_retries: 20
    user_code_failure_retry_delay: 10
telemetry:
  enabled: false
"""
WORKSPACE = """
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: proof
"""


@contextlib.contextmanager
def running() -> Iterator[Tuple[DagsterInstance, Process, Process]]:
    """Run a daemon and a gRPC server; gives the instance and both."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ.update(DAGSTER_HOME=home, TASKS=str(TASKS))
        Path(home, "dagster.yaml").write_text(INSTANCE)
        workspace = Path(home, "workspace.yaml")
        workspace.write_text(WORKSPACE.format(port=port))
        # Two processes that make the tables at once would fail, so this one is first.
        with DagsterInstance.get() as instance:
            address = ("--host", "127.0.0.1", "--port", str(port), "--log-level", "ERROR")
            module = ("-m", "tests.engines.dagster_app")
            server = Process("-m", "dagster", "api", "grpc", *module, *address)
            daemon = Process("-m", "dagster._daemon", "run", "-w", str(workspace))
            try:
                yield instance, daemon, server
            finally:
                daemon.kill()
                server.kill()


class Servers(Workers):
    """One gRPC server, with the processes of its runs."""

    def running(self) -> List[int]:
        return pids_where(self.workers, lambda command: b"spawn_main" in command)


def prove(name: str) -> Dict[str, int]:
    """Have runs made, kill, and return the figures when all tasks have succeeded."""
    begun = time.monotonic()
    with (
        service(5.0) as fake,
        running() as (instance, daemon, server),
    ):
        servers = Servers([server])

        def restart() -> None:
            daemon.kill()
            daemon.start()

        def ended() -> bool:
            runs = instance.get_runs()
            done = {str(run.run_config) for run in runs if run.status is DagsterRunStatus.SUCCESS}
            counts = Counter(run.status.value for run in runs)
            seconds = time.monotonic() - begun
            print(
                f"  {seconds:.0f} s: {dict(counts)}, executions {len(fake.executions)}", flush=True
            )
            time.sleep(10)
            return len(done) == TASKS

        kill_at_random(servers, fake, 7, pause=(2.0, 12.0), middle=restart)
        until(ended, timeout=1500)
        return report(name, fake, TASKS, KILLS)


def look() -> None:
    """Start executions by `starts`, have the sensor look at them, and print the requests."""
    with tempfile.TemporaryDirectory() as home, service(60.0) as fake:
        os.environ["DAGSTER_HOME"] = home
        with DagsterInstance.get() as instance:
            for number in range(TASKS):
                config = {"ops": {"start": {"config": {"customer": f"task-{number}"}}}}
                dagster_op.starts.execute_in_process(config, instance=instance)
            counts = [len(fake.requests)]
            requested: List[int] = []
            for wait in (0, 60):
                time.sleep(wait)
                requests: Any = dagster_op.ended(build_sensor_context(instance=instance))
                requested.append(len([*requests]))
                counts.append(len(fake.requests))
    print(
        f"{TASKS} starts: {counts[0]} requests; a look while all run: {counts[1] - counts[0]}, "
        f"when all have ended: {counts[2] - counts[1]}; runs requested: {requested}",
        flush=True,
    )


def main() -> None:
    look()
    prove_with_and_without("Dagster", prove)


if __name__ == "__main__":
    main()
