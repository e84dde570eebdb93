"""Proof on Dramatiq and Redis: messages whose workers are killed start their workflows once.

`python -m tests.engines.dramatiq_driver`; needs `redis-server` on the path.

Each message is sent once. A worker ends as soon as one of its processes has died, so it is started
again, as a supervisor would do.
"""

from __future__ import annotations

import os
from typing import Dict

import redis

from tests.engines.service import (
    KILLS,
    Process,
    Workers,
    kill_at_random,
    prove_with_and_without,
    redis_server,
    report,
    service,
    until,
)

TASKS = 20


def worker() -> Process:
    command = ("-m", "dramatiq", "tests.engines.dramatiq_app", "--processes", "2", "--threads", "2")
    return Process(*command, "--worker-shutdown-timeout", "1000")


def prove(name: str) -> Dict[str, int]:
    """Send messages to two workers of two processes, kill, and return the figures."""
    # Imported only now: the broker reads the environment.
    from tests.engines import dramatiq_app

    connection = redis.Redis.from_url(os.environ["REDIS_URL"])
    connection.flushall()
    with service(6.0) as fake:
        for _ in range(TASKS):
            dramatiq_app.report.send()
        queues = ("dramatiq:default.msgs", "dramatiq:default.DQ.msgs")
        with Workers([worker() for _ in range(2)]) as workers:
            kill_at_random(workers, fake, 7)
            until(
                lambda: workers.supervised() and not any(map(connection.hlen, queues)), timeout=600
            )
        print(f"{connection.zcard('dramatiq:default.XQ')} messages failed", flush=True)
        return report(name, fake, TASKS, KILLS)


def main() -> None:
    with redis_server() as url:
        os.environ["REDIS_URL"] = url
        prove_with_and_without("Dramatiq, processes and workers killed", prove)


if __name__ == "__main__":
    main()
