"""Proof on Celery and Redis: tasks whose workers are killed start their workflows once.

`python -m tests.engines.celery_driver`; needs `redis-server` on the path.

Each task is sent once. Children and whole workers are killed, the service is away for a while, and
Redis, which has each command on the disk, is killed once and started again.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any, Dict

from tests.engines.service import (
    KILLS,
    Process,
    Server,
    Workers,
    kill_at_random,
    ledger,
    proved,
    report,
    service,
    start_redis,
    until,
)

TASKS = 20


def worker(number: int) -> Process:
    command = ("-m", "celery", "-A", "tests.engines.celery_app", "--quiet", "worker")
    options = ("--concurrency=3", f"--hostname=w{number}@here", "--loglevel=ERROR")
    return Process(*command, *options, "--without-gossip", "--without-mingle")


def send(task: str) -> Any:
    """Empty Redis and send each task once. Return Redis."""
    # Imported only now: the example reads the URL of Redis from the environment.
    from tests.engines.celery_app import celery_redis

    store: Any = celery_redis.store
    store.flushall()
    for number in range(TASKS):
        getattr(celery_redis, task).apply_async((f"customer {number}",), task_id=f"task-{number}")
    return store


def ended(store: Any) -> bool:
    """Return whether no task runs or will run: no message is in the queue or unacknowledged.

    A worker takes a message from the queue, and puts it with the unacknowledged ones just after. If
    it dies in between, the message is lost, as when it puts an old one back.
    """
    for _ in range(50):
        if store.llen("celery") or store.hlen("unacked"):
            return False
        time.sleep(0.1)
    return True


def prove(
    name: str, redis: Server, task: str, *, seconds: float, visibility: float
) -> Dict[str, int]:
    """Send tasks to two workers, kill, and return the figures when no message is left."""
    os.environ["VISIBILITY"] = str(visibility)
    with service(seconds) as fake:
        store = send(task)
        with Workers([worker(number) for number in range(2)]) as workers:
            kill_at_random(workers, fake, 7, pause=(0.5, 3.0), middle=redis.restart)
            until(lambda: ended(store), timeout=visibility * 4 + 240)
        done = {task.decode() for task in store.smembers("ended")}
        print(f"{TASKS - len(done)} messages lost by Celery", flush=True)
        # A task whose message was lost may have started its workflow before.
        return report(name, fake, len({*done, *ledger(fake)}), KILLS)


def main() -> None:
    os.environ["STEP"] = "5"
    killed: Dict[str, Any] = {"seconds": 3.0, "visibility": 15.0}
    twice: Dict[str, Any] = {"seconds": 4.0, "visibility": 3.0}
    with tempfile.TemporaryDirectory() as folder:
        redis = start_redis(folder)
        try:
            os.environ["REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
            figures = [
                prove("Celery", redis, "report", **killed),
                prove("Celery, two workers on one task", redis, "report", **twice),
                prove("Celery in steps", redis, "report_in_steps", **killed),
            ]
            os.environ["BARE"] = "1"
            prove("without a checkpoint", redis, "report", **killed)
            prove("two workers on one task, without a checkpoint", redis, "report", **twice)
        finally:
            redis.kill()
    proved(*figures)


if __name__ == "__main__":
    main()
