"""Many executions of a pro key, on the fake with its limits, in virtual time.

What they cost is in `tests/core/executions/test_watch.py`; `benchmarks requests` measures it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, List

import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.errors import RateLimitError
from flowmaestro.testing import FakeFlowMaestro, Node

WORKFLOW = "6f9619ff-8b86-4011-b42d-00c04fc964ff"


def a_fake(seconds: float, per_day: int = 50_000, **options: Any) -> FakeFlowMaestro:
    """A service with a pro key's limits; its runs take `seconds`."""
    fake = FakeFlowMaestro(shapes="deployed", **options)
    fake.rate_limit(per_minute=300, per_day=per_day)
    fake.workflow(WORKFLOW, nodes=[Node("work", seconds=seconds)], outputs=dict)
    return fake


def test_concurrent_runs_without_events_share_the_window_of_a_key() -> None:
    fake = a_fake(20.0, events="silent")
    lates: List[float] = []

    async def run(client: AsyncFlowMaestroClient, number: int) -> None:
        execution = await client.workflows.run(WORKFLOW, {"n": number})
        ended: Any = fake.find_execution(execution.id)
        lates.append(fake.clock.now - ended.completed_at)

    async def all_runs() -> None:
        transport = fake.async_transport()
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            await asyncio.gather(*(run(client, number) for number in range(100)))

    asyncio.run(all_runs())
    assert len(lates) == 100
    assert all(request.status != 429 for request in fake.requests)
    assert max(lates) <= 45.0


def test_batch_that_a_day_cannot_hold_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    fake = a_fake(1.0, per_day=100)
    rows = [{"n": n} for n in range(400)]
    told: List[Any] = []
    client = FlowMaestroClient(fake.api_key, transport=fake.transport())
    with client, pytest.raises(RateLimitError):
        list(client.workflows.run_many(WORKFLOW, rows, progress=told.append))
    said = [progress.day_ends_after for progress in told]
    assert said[:7] == [None] * 7
    assert all(rows == pytest.approx(len(told), abs=12) for rows in said[7:])
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert re.fullmatch(
        r"workflows.run_many: the key's requests of this day are used up after about \d+ of 400 "
        "rows at this rate",
        record.getMessage(),
    )
