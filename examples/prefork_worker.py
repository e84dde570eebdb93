"""A prefork worker, as Celery, gunicorn and uWSGI have them: one client, made before the fork.

The parent has used its connections when it forks. Each child makes connections of its own, so a
client at the top of a module is safe.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Iterator

from service import WORKFLOW

from flowmaestro import FlowMaestroClient

PARENT = os.getpid()
client: FlowMaestroClient


def task(name: str) -> str:
    """Do the job of a worker."""
    run = client.workflows.run(WORKFLOW, inputs={"name": name})
    return f"{run['status']}, in a child: {os.getpid() != PARENT}"


def main() -> None:
    """Use the client, fork two workers, and give them four jobs."""
    client.workflows.get(WORKFLOW)
    with get_context("fork").Pool(2) as pool:
        for result in pool.map(task, ["Ada", "Bob", "Cyd", "Dan"]):
            print(result)


@contextmanager
def service_of_another_process() -> Iterator[None]:
    """As `service`, without a thread in this process: a process with threads must not fork."""
    if "FLOWMAESTRO_API_KEY" in os.environ:
        yield
        return
    os.environ["FLOWMAESTRO_API_KEY"] = key = "fm_live_of_this_example"
    command = [sys.executable, "-m", "flowmaestro", "serve", "--port", "0", "--api-key", key]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            announced = server.stdout.readline() if server.stdout else ""
            os.environ["FLOWMAESTRO_BASE_URL"] = announced.split()[-1]
            yield
        finally:
            server.terminate()


if __name__ == "__main__":
    with service_of_another_process(), FlowMaestroClient() as client:
        main()
