"""Proof on RQ: jobs whose workers are killed start their workflows once.

`python -m tests.engines.rq_driver`; needs `redis-server` on the path. With `few`, one round.

Each job is enqueued once. Its retries have an interval, or they would be used up while the service
is away; so the workers run a scheduler. An idle worker looks for abandoned jobs when its wait for a
job ends, which is 15 s before the end of its `--worker-ttl`.
"""

from __future__ import annotations

import os
import sys
from typing import Dict, List

import redis
from rq import Queue, Retry

from tests.engines.service import (
    KILLS,
    Process,
    Workers,
    kill_at_random,
    proved,
    redis_server,
    report,
    service,
    until,
)

TASKS = 20
OPTIONS = ("--with-scheduler", "--maintenance-interval", "30", "--worker-ttl", "45")


def worker(url: str) -> Process:
    return Process("-m", "rq.cli", "worker", "--url", url, *OPTIONS)


class RQWorkers(Workers):
    def running(self) -> List[int]:
        """Return the ids of the processes of jobs, which lead a group; a scheduler does not."""
        return [pid for pid in super().running() if group_of(pid) == pid]


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def prove(name: str, url: str, *, seed: int) -> Dict[str, int]:
    """Enqueue jobs for four workers, kill workers and their children, and return the figures."""
    connection = redis.Redis.from_url(url)
    connection.flushall()
    queue = Queue(connection=connection)
    with service(8.0) as fake:
        for number in range(TASKS):
            queue.enqueue(
                "tests.engines.rq_app.report",
                job_id=f"{number}",
                job_timeout=3600,
                retry=Retry(max=3, interval=10),
            )
        ended = queue.finished_job_registry, queue.failed_job_registry
        with RQWorkers([worker(url) for _ in range(4)]) as workers:
            kill_at_random(workers, fake, seed)
            until(lambda: sum(map(len, ended)) == TASKS, timeout=600)
        print(f"{len(ended[0])} jobs finished, {len(ended[1])} failed", flush=True)
        return report(name, fake, TASKS, KILLS)


def main() -> None:
    rounds = 1 if "few" in sys.argv else 3
    with redis_server() as url:
        os.environ["REDIS_URL"] = url
        figures = [prove("RQ, workers and jobs killed", url, seed=seed) for seed in range(rounds)]
        os.environ["BARE"] = "1"
        prove("the same without a checkpoint", url, seed=0)
    proved(*figures)


if __name__ == "__main__":
    main()
