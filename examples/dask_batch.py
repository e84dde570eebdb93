"""Rows prepared and results handled on Dask; starts and journal in one process.

pip install distributed
python examples/dask_batch.py

Run by itself it brings a service and a cluster of its own, kills a worker in the middle, and looks
into the service's ledger: each row was started once.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import Counter
from concurrent.futures import Future, as_completed
from pathlib import Path
from typing import Any, Dict, List

from distributed import Client, LocalCluster

from flowmaestro import FlowMaestroClient
from flowmaestro.testing import FakeFlowMaestro, running_server

ROWS = 200


def prepare(number: int) -> Dict[str, Any]:
    """Do the user's own work before a run, on a worker."""
    return {"name": f"customer {number}"}


def handle(index: int, outputs: Any) -> int:
    """Do the user's own work after a run, on a worker: an upsert by index."""
    if outputs["message"] != f"Hello, customer {index}!":
        raise ValueError(f"row {index} has the result of another: {outputs}")
    return index


def main() -> None:
    """Do all of it, and check the ledger."""
    service = FakeFlowMaestro()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(service, speed=20.0) as url,
        LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as dask,
        FlowMaestroClient(service.api_key, base_url=url) as client,
    ):
        workers = dask.get_executor(pure=False)
        rows = list(workers.map(prepare, range(ROWS)))
        journal = Path(folder) / "runs.sqlite3"
        handled: List[Future[int]] = []
        for outcome in client.workflows.run_many("wf_123", rows, journal=journal):
            handled.append(workers.submit(handle, outcome.index, outcome.outputs))
            if len(handled) == ROWS // 2:
                victim = next(iter(dask.run(os.getpid).values()))
                os.kill(victim, signal.SIGKILL)
        done = {future.result() for future in as_completed(handled)}
    ledger = Counter(execution.inputs["name"] for execution in service.executions)
    if done != set(range(ROWS)) or ledger != Counter(f"customer {n}" for n in range(ROWS)):
        sys.exit(f"handled {len(done)} results of {sum(ledger.values())} starts for {ROWS} rows")
    print(f"{ROWS} rows, each started once; a worker was killed")


if __name__ == "__main__":
    main()
