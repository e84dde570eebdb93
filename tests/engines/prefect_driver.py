"""Proof on Prefect: flows whose processes are killed start their workflows once.

`python -m tests.engines.prefect_driver`
"""

from __future__ import annotations

import functools
import os
import random
import sys
import tempfile
import urllib.request
from typing import Any

from tests.engines.service import (
    SETTLE_AFTER,
    Process,
    free_port,
    kill_once_each,
    proved,
    report,
    service,
    until,
)


def child(task: str) -> None:
    """Run one flow in this process."""
    from examples.engines import prefect_flow

    checkpoint: Any = prefect_flow.Checkpoint
    shorter: Any = functools.partial(checkpoint, settle_after=SETTLE_AFTER)
    prefect_flow.Checkpoint = shorter  # type: ignore[misc]
    if os.environ.get("BARE"):
        prefect_flow.checkpoint_of = lambda name: None  # type: ignore[assignment,return-value]
    prefect_flow.report(task)


def start(task: str, attempt: int) -> Process:
    return Process("-m", "tests.engines.prefect_driver", "child", task)


def main() -> None:
    count = 3 if "few" in sys.argv else 10
    tasks = [f"day-{number}" for number in range(count)]
    port = free_port()
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(
            PREFECT_HOME=home, PREFECT_LOGGING_LEVEL="ERROR", PREFECT_SERVER_ANALYTICS_ENABLED="0"
        )
        server = Process("-m", "prefect", "server", "start", "--port", str(port))
        try:
            url = f"http://127.0.0.1:{port}/api"
            until(lambda: urllib.request.urlopen(f"{url}/health").status == 200, timeout=180)
            os.environ["PREFECT_API_URL"] = url
            with service(3.0) as fake:
                kills = kill_once_each(fake, tasks, start, random.Random(7))
                figures = report("Prefect, processes killed", fake, count, kills)
            os.environ["BARE"] = "1"
            with service(3.0) as fake:
                kills = kill_once_each(fake, tasks, start, random.Random(7))
                report("the same without a checkpoint", fake, count, kills)
        finally:
            server.kill()
    proved(figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2])
    else:
        main()
