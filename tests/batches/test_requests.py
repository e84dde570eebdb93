"""What waiting for many costs a pro key, on the fake with its limits, in virtual time."""

from __future__ import annotations

import asyncio
import random
import re
from statistics import median
from typing import Any, List

import pytest

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.errors import RateLimitError, ServerError
from flowmaestro.testing import FakeFlowMaestro, Node

WORKFLOW = "6f9619ff-8b86-4011-b42d-00c04fc964ff"


def a_fake(seconds: float, spread: float = 0.0, **options: Any) -> FakeFlowMaestro:
    """A service with a pro key's limits; its runs take `seconds`, give or take a share."""
    fake = FakeFlowMaestro(shapes="deployed", **options)
    fake.rate_limit(per_minute=300, per_day=50_000)
    rng = random.Random(7)
    takes = [seconds * (1 + spread * (2 * rng.random() - 1)) for _ in range(1000)]
    node = Node("work", seconds=lambda inputs: takes[inputs.get("n", 0)])
    fake.workflow(WORKFLOW, nodes=[node], outputs=lambda inputs: {"n": inputs["n"]})
    return fake


def client_of(fake: FakeFlowMaestro) -> FlowMaestroClient:
    return FlowMaestroClient(fake.api_key, transport=fake.transport())


def numbered(rows: int) -> List[Any]:
    return [{"n": n} for n in range(rows)]


def late(fake: FakeFlowMaestro, execution_id: Any) -> float:
    execution: Any = fake.find_execution(execution_id)
    return float(fake.clock.now - execution.completed_at)


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize(
    ("seconds", "rows", "concurrency", "a_row"),
    [(60.0, 400, 100, 1.3), (60.0, 240, 8, 3.0), (1.0, 300, 8, 1.5)],
)
def test_rows_of_a_batch_cost_few_requests(
    seconds: float, rows: int, concurrency: int, a_row: float, spread: float
) -> None:
    """`benchmarks requests` measures the same with 2,000 rows."""
    fake = a_fake(seconds, spread)
    lates: List[float] = []
    with client_of(fake) as client:
        batch = client.workflows.run_many(
            WORKFLOW, numbered(rows), concurrency=concurrency, timeout=3600
        )
        for outcome in batch:
            assert outcome.ok
            lates.append(late(fake, outcome.execution_id))
    assert len(lates) == rows
    assert len(fake.requests) / rows <= a_row
    assert all(request.status != 429 for request in fake.requests)
    assert median(lates) <= 3.0
    assert max(lates) <= 6.0


def test_executions_that_have_ended_cost_a_request_for_a_hundred() -> None:
    fake = a_fake(1.0)
    with client_of(fake) as client:
        start = client.workflows.execute
        ids = [start(WORKFLOW, {"n": n})["data"]["execution_id"] for n in range(250)]
        fake.clock.advance(60)
        before = len(fake.requests)
        assert all(outcome.ok for outcome in client.executions.wait_many(ids))
    assert len(fake.requests) - before == 4


def test_concurrent_runs_without_events_share_the_window_of_a_key() -> None:
    fake = a_fake(20.0, events="silent")
    lates: List[float] = []

    async def run(client: AsyncFlowMaestroClient, number: int) -> None:
        execution = await client.workflows.run(WORKFLOW, {"n": number})
        lates.append(late(fake, execution.id))

    async def all_runs() -> None:
        transport = fake.async_transport()
        async with AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            await asyncio.gather(*(run(client, number) for number in range(100)))

    asyncio.run(all_runs())
    assert len(lates) == 100
    assert all(request.status != 429 for request in fake.requests)
    assert max(lates) <= 45.0


def test_rows_are_not_lost_while_the_list_answers_500() -> None:
    fake = a_fake(20.0, 0.5)
    with client_of(fake) as client:
        done = []
        for outcome in client.workflows.run_many(WORKFLOW, numbered(60), concurrency=20):
            assert outcome.ok
            done.append(outcome.index)
            if len(done) == 10:  # From now on, each page fails that has this start on it.
                with pytest.raises(ServerError):
                    client.request(
                        "POST", f"/workflows/{WORKFLOW}/execute", json={"inputs": "no object"}
                    )
    assert sorted(done) == list(range(60))
    lists = [request for request in fake.requests if "per_page" in request.params]
    assert {request.status for request in lists} == {200, 500}


def test_batch_that_a_day_cannot_hold_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    fake = a_fake(1.0)
    fake.rate_limit(per_minute=300, per_day=100)
    told: List[Any] = []
    with client_of(fake) as client, pytest.raises(RateLimitError):
        for _ in client.workflows.run_many(WORKFLOW, numbered(400), progress=told.append):
            pass
    said = [progress.day_ends_after for progress in told]
    assert said[:7] == [None] * 7
    assert all(rows == pytest.approx(len(told), abs=12) for rows in said[7:])
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert re.fullmatch(
        r"workflows.run_many: the key's requests of this day are used up after about \d+ of 400 "
        "rows at this rate",
        record.getMessage(),
    )


def test_batch_that_a_day_holds_says_nothing_of_it() -> None:
    fake = a_fake(1.0)
    told: List[Any] = []
    with client_of(fake) as client:
        list(client.workflows.run_many(WORKFLOW, numbered(20), progress=told.append))
        list(client.workflows.run_many(WORKFLOW, iter(numbered(20)), progress=told.append))
    assert {progress.day_ends_after for progress in told} == {None}
