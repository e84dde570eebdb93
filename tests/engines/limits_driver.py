"""One key and eight processes: with the hook of `docs/limits.md`, no request is refused.

`python -m tests.engines.limits_driver`; needs `redis-server`. With `few`, fewer processes and runs.

Each process makes runs at the same time, of workflows that take 20 s, on a key of 300 requests a
minute. The fake counts the replies 429, as it answers: its window begins with the first request.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict

from flowmaestro import FlowMaestroClient
from tests.engines.service import ROOT, WORKFLOW, redis_server, service
from tests.harness.house.pages import blocks_of

PER_MINUTE = 300
SECONDS = 20.0


def child(hooked: bool, first: int, count: int) -> None:
    """Make runs at the same time; print how many have completed."""
    more: Dict[str, Any] = {}
    if hooked:
        page = ROOT / "docs" / "limits.md"
        (block,) = (it for it in blocks_of(page) if "from limits import" in it.text)
        names: Dict[str, Any] = {}
        exec(compile(block.text, str(page), "exec"), names)
        more["hooks"] = names["hooks"]
    with FlowMaestroClient(**more) as client, ThreadPoolExecutor(count) as threads:

        def run(number: int) -> Any:
            return client.workflows.run(WORKFLOW, {"task": str(number)}, timeout=600)["status"]

        print(*threads.map(run, range(first, first + count)))


def prove(hooked: bool, *, processes: int, runs: int) -> int:
    """Print the figures; return the number of replies 429."""
    begun = time.monotonic()
    with service(SECONDS) as fake:
        fake.rate_limit(per_minute=PER_MINUTE)
        command = [sys.executable, "-m", "tests.engines.limits_driver", "child", f"{int(hooked)}"]
        started = [
            subprocess.Popen(
                [*command, str(number * runs), str(runs)], stdout=subprocess.PIPE, text=True
            )
            for number in range(processes)
        ]
        ended = Counter(word for each in started for word in each.communicate()[0].split())
        statuses = Counter(request.status for request in fake.requests)
        print(
            f"{processes} processes with {runs} runs each, {'with' if hooked else 'without'} the "
            f"hook: {dict(ended)}, requests {sum(statuses.values())}, of which 429 "
            f"{statuses[429]}, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        return statuses[429]


def main() -> None:
    processes, runs = (4, 24) if "few" in sys.argv else (8, 12)
    with redis_server() as url:
        os.environ["REDIS_URL"] = url
        refused = prove(True, processes=processes, runs=runs)
        prove(False, processes=processes, runs=runs)
    if refused:
        sys.exit("requests were refused in spite of the hook")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2] == "1", int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
