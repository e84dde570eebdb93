"""The actor of the driver of Dramatiq, with shorter times."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import CurrentMessage

from tests.engines import stored_task

broker = RedisBroker(url=os.environ["REDIS_URL"], maintenance_chance=100_000)
broker.add_middleware(CurrentMessage())
dramatiq.set_broker(broker)


@dramatiq.actor(time_limit=3_600_000, min_backoff=1000)
def report() -> None:
    message = CurrentMessage.get_current_message()
    assert message is not None
    stored_task.report(f"message {message.message_id}")
