"""The requests that waiting for many costs a key: on the fake with a pro key's limits.

Time is virtual, so the figures depend on nothing but the SDK.
"""

import asyncio
import random
import tempfile
from pathlib import Path
from statistics import median

from protocol import serve

import flowmaestro
from flowmaestro.testing import FakeFlowMaestro, Node

WORKFLOW = "6f9619ff-8b86-4011-b42d-00c04fc964ff"


def a_fake(seconds, spread, count, events="live"):
    """A service with a workflow whose runs take `seconds`, give or take a share of `spread`."""
    fake = FakeFlowMaestro(shapes="deployed", events=events)
    fake.rate_limit(per_minute=300, per_day=50_000)
    rng = random.Random(7)
    takes = [seconds * (1 + spread * (2 * rng.random() - 1)) for _ in range(count)]
    node = Node("work", seconds=lambda inputs: takes[inputs["n"]])
    fake.workflow(WORKFLOW, nodes=[node], outputs=lambda inputs: {"n": inputs["n"]})
    return fake


def late(fake, execution_id):
    """Return the seconds since an execution has ended."""
    return fake.clock.now - fake.find_execution(execution_id).completed_at


def figures(fake, count, lates):
    return {
        "a_row": len(fake.requests) / count,
        "requests": len(fake.requests),
        "refused": sum(request.status == 429 for request in fake.requests),
        "median_late_s": median(lates),
        "latest_s": max(lates),
    }


def rows(count, seconds, spread, concurrency=8):
    """The rows of one batch."""
    fake = a_fake(seconds, spread, count)
    inputs = [{"n": number} for number in range(count)]
    lates = []
    with flowmaestro.FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        for outcome in client.workflows.run_many(
            WORKFLOW, inputs, concurrency=concurrency, timeout=3600
        ):
            assert outcome.ok, outcome.error
            lates.append(late(fake, outcome.execution_id))
    return figures(fake, count, lates)


class SlowStore:
    """A store of dicts, each of whose methods takes some seconds of the virtual clock."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds
        self.states, self.numbers, self.saves = {}, {}, 0

    def load(self, keys, outcomes):
        self.clock.advance(self.seconds)
        return [self.states[key] for key in keys if key in self.states]

    def save(self, states):
        self.clock.advance(self.seconds)
        self.saves += 1
        for state in states:
            self.states[state["key"]] = state
            if state.get("execution_id") is not None:
                self.numbers[state["execution_id"]] = state["number"]

    def known(self, execution_ids):
        self.clock.advance(self.seconds)
        return {one: self.numbers[one] for one in execution_ids if one in self.numbers}


def stored(count, seconds, store, concurrency):
    """The rows of one batch whose states a store keeps; how long the batch takes."""
    fake = a_fake(seconds, 0.0, count)
    kept = SlowStore(fake.clock, store)
    inputs = [{"n": number} for number in range(count)]
    lates = []
    with flowmaestro.FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        began = fake.clock.now
        for outcome in client.workflows.run_many(
            WORKFLOW, inputs, journal=kept, concurrency=concurrency, timeout=3600
        ):
            assert outcome.ok, outcome.error
            lates.append(late(fake, outcome.execution_id))
        lasts = fake.clock.now - began
    return {**figures(fake, count, lates), "saves": kept.saves / count, "lasts_s": lasts}


def known(count):
    """Executions of one workflow that were started elsewhere and have ended."""
    fake = a_fake(1.0, 0.0, count)
    fake.rate_limit(per_minute=count, per_day=50_000)
    with flowmaestro.FlowMaestroClient(fake.api_key, transport=fake.transport()) as client:
        start = client.workflows.execute
        ids = [start(WORKFLOW, {"n": n})["data"]["execution_id"] for n in range(count)]
        fake.clock.advance(120)
        fake.rate_limit(per_minute=300, per_day=50_000)
        before = len(fake.requests)
        assert all(outcome.ok for outcome in client.executions.wait_many(ids))
    return {"requests": len(fake.requests) - before}


def runs(count, seconds, spread):
    """Concurrent runs of one client, whose streams bring no events."""
    fake = a_fake(seconds, spread, count, events="silent")
    lates = []

    async def run(client, number):
        execution = await client.workflows.run(WORKFLOW, {"n": number})
        lates.append(late(fake, execution.id))

    async def all_runs():
        transport = fake.async_transport()
        async with flowmaestro.AsyncFlowMaestroClient(fake.api_key, transport=transport) as client:
            await asyncio.gather(*(run(client, number) for number in range(count)))

    asyncio.run(all_runs())
    return figures(fake, count, lates)


def lookup(count):
    """A row whose start was lost, and is looked up behind so many executions since the baseline."""
    fake = a_fake(1.0, 0.0, count + 1)
    fake.rate_limit(per_minute=10 * count, per_day=10 * count)
    other = flowmaestro.FlowMaestroClient(fake.api_key, transport=fake.transport())
    other.workflows.execute(WORKFLOW, {"n": 0})  # the baseline
    fake.drop_connection(method="POST", path=f"/workflows/{WORKFLOW}/execute")

    def meanwhile(progress):
        if progress.in_doubt and len(fake.executions) < count:
            for number in range(count - 1):
                other.workflows.execute(WORKFLOW, {"n": number})

    with tempfile.TemporaryDirectory() as folder:
        outcomes = other.workflows.run_many(
            WORKFLOW, [{"n": count}], journal=Path(folder, "runs"), progress=meanwhile
        )
        assert all(outcome.ok for outcome in outcomes)
    pages = [request for request in fake.requests if request.params.get("per_page") == "100"]
    return {"requests": len(pages)}


serve(rows=rows, stored=stored, known=known, runs=runs, lookup=lookup)
