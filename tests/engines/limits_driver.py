"""One key and eight processes: with a hook of `docs/limits.md`, no request is refused.

`python -m tests.engines.limits_driver`; needs `redis-server`. With `prefect`, the hook waits for a
limit of a Prefect server, else for one in Redis. With `few`, fewer processes and runs.

Each process makes runs at the same time, of workflows that take 20 s, on a key of 300 requests a
minute. The fake counts the replies 429, as it answers: its window begins with the first request.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator

from flowmaestro import FlowMaestroClient
from tests.engines.service import ROOT, WORKFLOW, Process, free_port, redis_server, service, until
from tests.harness.house.pages import blocks_of

PER_MINUTE = 300
SECONDS = 20.0


RECIPES = {"redis": "from limits import", "prefect": "from prefect.concurrency.sync import"}


def child(recipe: str, first: int, count: int) -> None:
    """Make runs at the same time; print how many have completed."""
    more: Dict[str, Any] = {}
    if recipe:
        page = ROOT / "docs" / "limits.md"
        (block,) = (it for it in blocks_of(page) if RECIPES[recipe] in it.text)
        names: Dict[str, Any] = {}
        exec(compile(block.text, str(page), "exec"), names)
        more["hooks"] = names["hooks"]
    with FlowMaestroClient(**more) as client, ThreadPoolExecutor(count) as threads:

        def run(number: int) -> Any:
            return client.workflows.run(WORKFLOW, {"task": str(number)}, timeout=600)["status"]

        print(*threads.map(run, range(first, first + count)))


@contextlib.contextmanager
def prefect_server() -> Iterator[None]:
    """Run a Prefect server, with the limit that the page makes."""
    port = free_port()
    page = ROOT / "docs" / "limits.md"
    (command,) = (it.text for it in blocks_of(page) if it.text.startswith("prefect gcl create"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        os.environ.update(PREFECT_HOME=home, PREFECT_SERVER_ANALYTICS_ENABLED="0")
        os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
        server = Process("-m", "prefect", "server", "start", "--port", str(port))
        try:
            url = f"http://127.0.0.1:{port}/api"
            until(lambda: urllib.request.urlopen(f"{url}/health").status == 200, timeout=300)
            os.environ["PREFECT_API_URL"] = url
            subprocess.run([sys.executable, "-m", *command.split()], check=True)
            yield
        finally:
            server.kill()


def prove(recipe: str, *, processes: int, runs: int) -> int:
    """Print the figures; return the number of replies 429."""
    begun = time.monotonic()
    with service(SECONDS) as fake:
        fake.rate_limit(per_minute=PER_MINUTE)
        command = [sys.executable, "-m", "tests.engines.limits_driver", "child", recipe]
        started = [
            subprocess.Popen(
                [*command, str(number * runs), str(runs)], stdout=subprocess.PIPE, text=True
            )
            for number in range(processes)
        ]
        try:
            ended = Counter(word for each in started for word in each.communicate()[0].split())
        finally:
            for each in started:
                each.kill()
        statuses = Counter(request.status for request in fake.requests)
        print(
            f"{processes} processes with {runs} runs each, {'with' if recipe else 'without'} the "
            f"hook: {dict(ended)}, requests {sum(statuses.values())}, of which 429 "
            f"{statuses[429]}, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        return statuses[429]


def main() -> None:
    processes, runs = (4, 24) if "few" in sys.argv else (8, 12)
    with contextlib.ExitStack() as stack:
        recipe = "prefect" if "prefect" in sys.argv else "redis"
        if recipe == "redis":
            os.environ["REDIS_URL"] = stack.enter_context(redis_server())
        else:
            stack.enter_context(prefect_server())
        refused = prove(recipe, processes=processes, runs=runs)
        prove("", processes=processes, runs=runs)
    if refused:
        sys.exit("requests were refused in spite of the hook")
    print(f"{processes} processes on one key wait for {recipe}: no request got a 429")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
