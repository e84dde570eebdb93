"""Celery tasks that start their workflow once, with compare and swap in Redis.

pip install flowmaestro 'celery[redis]'

celery -A celery_redis worker --loglevel INFO --concurrency 2 --hostname w1@%h
python -c 'import celery_redis; celery_redis.report.delay("Ada")'

Both need `FLOWMAESTRO_API_KEY` and `REDIS_URL`. Run the first as often as you want workers.

The state is in Redis, under the id of the task. `acks_late` makes Celery repeat a task whose worker
died. After the visibility timeout it may run one task twice at the same time, so the store compares
and swaps. Do not keep the state in Celery's result backend: `track_started` overwrites it.

`report` occupies a process of the worker while the workflow runs, `report_in_steps` does not.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Tuple

import redis
from celery import Celery

from flowmaestro import Checkpoint, CheckpointConflict, FlowMaestroClient, FlowMaestroError

URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
app = Celery("reports", broker=URL)
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
# A task of a dead worker comes back after the first, in seconds: set it above the time of the
# longest task. The second makes workers look every 10 s; by default they do every 100 s.
app.conf.broker_transport_options = {"visibility_timeout": 3600, "unacked_restore_throttle": 1}

store = redis.Redis.from_url(URL)
keep = store.register_script("""
local held = redis.call('GET', KEYS[1])
if (held and cjson.decode(held).serial or 0) ~= tonumber(ARGV[1]) - 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', 604800)  -- a week: longer than any retry
return 1
""")


def checkpoint_of(task_id: str, *, rerun: Tuple[str, ...] = ("failed",)) -> Checkpoint:
    """Return the checkpoint of one task."""
    key = f"flowmaestro:{task_id}"

    def load() -> Any:
        held: Any = store.get(key)
        return None if held is None else json.loads(held)

    def save(state: Dict[str, Any]) -> None:
        if not keep(keys=[key], args=[state["serial"], json.dumps(state)]):
            raise CheckpointConflict

    return Checkpoint(load, save, rerun=rerun)


# `acks_late` repeats a task after a death, not after an error, as when the service is away.
@app.task(bind=True, autoretry_for=(FlowMaestroError,), retry_backoff=5, max_retries=5)
def report(self: Any, customer: str) -> Any:
    """Run the workflow of one customer."""
    inputs = {"customer": customer, "task": self.request.id}
    with FlowMaestroClient() as client:
        run = client.workflows.run(
            "wf_123", inputs, timeout=3000, checkpoint=checkpoint_of(self.request.id)
        )
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]


# A worker holds a task that waits for its next step, unacknowledged: so the time between two steps
# must be shorter than the visibility timeout. 360 steps are 3 hours.
STEP = {"countdown": float(os.environ.get("STEP", "30")), "max_retries": 360}


@app.task(bind=True, autoretry_for=(FlowMaestroError,), retry_kwargs=STEP)
def report_in_steps(self: Any, customer: str) -> Any:
    """Run the workflow of one customer. Leave the process of the worker while the workflow runs."""
    inputs = {"customer": customer, "task": self.request.id}
    # Without `rerun=`: each step after a failure would start the workflow again.
    checkpoint = checkpoint_of(self.request.id, rerun=())
    with FlowMaestroClient() as client:
        started = client.workflows.execute("wf_123", inputs=inputs, checkpoint=checkpoint)["data"]
        if started["status"] not in ("completed", "failed", "cancelled"):
            raise self.retry(**STEP)
        run = client.executions.get(started["execution_id"])["data"]
    if run["status"] != "completed":
        raise RuntimeError(run["error"])
    return run["outputs"]
