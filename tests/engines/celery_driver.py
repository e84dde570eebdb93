"""Proof on Celery and Redis: tasks whose workers are killed start their workflows once.

`python -m tests.engines.celery_driver`; needs `redis-server` on the path.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any, Dict

from tests.engines.service import Process, ledger, proved, redis_server, report, service, until


def worker(number: int) -> Process:
    command = ("-m", "celery", "-A", "tests.engines.celery_app", "--quiet", "worker")
    options = ("--concurrency=3", f"--hostname=w{number}@here", "--loglevel=ERROR")
    return Process(*command, *options, "--without-gossip", "--without-mingle")


def prove(
    name: str, *, tasks: int, kills: int, seconds: float, visibility: float
) -> Dict[str, int]:
    """Send tasks to two workers, kill workers and their children, and return the figures."""
    rng = random.Random(7)
    os.environ["VISIBILITY"] = str(visibility)
    # Imported only now: the example reads the URL of Redis from the environment.
    from tests.engines.celery_app import celery_redis

    queue: Any = celery_redis.store
    queue.flushall()
    with service(seconds) as fake:
        for number in range(tasks):
            celery_redis.report.apply_async((f"customer {number}",), task_id=f"task-{number}")
        workers = [worker(number) for number in range(2)]
        done = 0
        try:
            until(lambda: len(fake.executions) > 2)
            while done < kills and queue.llen("celery") > 0:
                victim = rng.choice(workers)
                if rng.random() < 0.3:
                    victim.kill()
                    victim.start()
                    done += 1
                else:
                    done += victim.kill_child(rng.randrange(9))
                time.sleep(rng.uniform(0.2, 2.5))
            until(
                lambda: queue.llen("celery") == 0 and queue.hlen("unacked") == 0,
                timeout=visibility * 4 + 240,
            )
        finally:
            for each in workers:
                each.kill()
        running = [it.id for it in fake.executions if it.status == "running"]
        if running:
            print("left running:", len(running), max(ledger(fake).values()))
        return report(name, fake, tasks, done)


def main() -> None:
    few = "few" in sys.argv
    tasks, kills = (20, 8) if few else (100, 40)
    killed = {"tasks": tasks, "kills": kills, "seconds": 1.0, "visibility": 15.0}
    twice = {"tasks": 24, "kills": 6, "seconds": 4.0, "visibility": 3.0}
    with redis_server() as url:
        os.environ["REDIS_URL"] = url
        figures = [
            prove("Celery, workers killed", **killed),  # type: ignore[arg-type]
            prove("Celery, two workers on one task", **twice),  # type: ignore[arg-type]
        ]
        os.environ["BARE"] = "1"
        prove("the same without a checkpoint", **killed)  # type: ignore[arg-type]
        prove("the same without a checkpoint", **twice)  # type: ignore[arg-type]
    for each in figures:
        proved(each)


if __name__ == "__main__":
    main()
