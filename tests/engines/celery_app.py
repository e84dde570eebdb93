"""The example's Celery app with shorter times, and without a checkpoint if `BARE` is set."""

from __future__ import annotations

import functools
import os
from typing import Any

from celery.signals import task_success

from examples.engines import celery_redis
from examples.engines.celery_redis import app
from tests.engines.service import SETTLE_AFTER

__all__ = ["app"]

visibility: Any = float(os.environ["VISIBILITY"])
app.conf.broker_transport_options["visibility_timeout"] = visibility
app.conf.worker_proc_alive_timeout = 60
# The example has the default of 60 s.
shorter = functools.partial(celery_redis.Checkpoint, settle_after=SETTLE_AFTER)
setattr(celery_redis, "Checkpoint", shorter)  # noqa: B010
if os.environ.get("BARE"):
    setattr(celery_redis, "checkpoint_of", lambda task_id, **_: None)  # noqa: B010


@task_success.connect
def note_end(sender: Any, **_: Any) -> None:
    """Note that a task has ended."""
    celery_redis.store.sadd("ended", sender.request.id)
