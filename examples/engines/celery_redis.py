"""A Celery task that starts its workflow once, with compare and swap in Redis.

pip install celery redis

The state is in Redis, under the id of the task. `acks_late` makes Celery repeat a task whose worker
died. After the visibility timeout it may run one task twice at the same time, so the store compares
and swaps. Do not keep the state in Celery's result backend: `track_started` overwrites it.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict

import redis
from celery import Celery

from flowmaestro import Checkpoint, CheckpointConflict, FlowMaestroClient

URL = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
app = Celery("reports", broker=URL)
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)

store = redis.Redis.from_url(URL)
keep = store.register_script("""
local held = redis.call('GET', KEYS[1])
if (held and cjson.decode(held).serial or 0) ~= tonumber(ARGV[1]) - 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', 604800)  -- a week: longer than any retry
return 1
""")


def checkpoint_of(task_id: str) -> Checkpoint:
    """Return the checkpoint of one task."""
    key = f"flowmaestro:{task_id}"

    def load() -> Any:
        held: Any = store.get(key)
        return None if held is None else json.loads(held)

    def save(state: Dict[str, Any]) -> None:
        if not keep(keys=[key], args=[state["serial"], json.dumps(state)]):
            raise CheckpointConflict

    return Checkpoint(load, save, rerun=("failed",))


@app.task(bind=True)
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
