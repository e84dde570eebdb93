"""A batch, whatever happens: it keeps its promises, and no start goes out twice."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any, Iterator, List, Optional, Set

import pytest
from hypothesis import strategies as st

from flowmaestro_core.actions import Fail, Send
from flowmaestro_core.errors import RateLimitError
from flowmaestro_core.executions import start_queue as batch_starts
from flowmaestro_core.executions.batch import BatchMachine
from flowmaestro_core.executions.settling import LookupMachine
from flowmaestro_core.executions.start import FATAL_ERRORS
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import NEARLY_SPENT, stepping
from tests.harness.core.journals import Journaled
from tests.harness.core.properties import MachineProperties, collected, json_values, responses
from tests.harness.core.stepping import (
    Possibilities,
    Report,
    Stepper,
    a_response,
    an_envelope,
    assert_table_is_true,
    may_have_acted,
    wander,
)

STARTED = a_response(202, an_envelope({"execution_id": "ex_1", "status": "pending"}))
REPLIES = (
    *(a_response(200, an_envelope({"status": status})) for status in ("running", "completed")),
    STARTED,
    a_response(302, headers={"Location": "/x"}),
    a_response(404),
    a_response(429, headers={"Retry-After": "15"}),
    a_response(429, headers={"Retry-After": "400"}),
    a_response(500),
    a_response(200, an_envelope({"status": "running"}), NEARLY_SPENT),
)
PAGE = a_response(200, {"data": [{"id": "ex_1", "inputs": {}}], "pagination": {"has_next": True}})
LAST_PAGE = a_response(200, {"data": [{"id": "ex_2", "inputs": {}, "created_at": "2020-01-01"}]})


def mixed() -> List[Any]:
    return [{}, {"a": {1}}, {}, {}, {}]


def broken() -> Stepper:
    stepper = stepping(Workflows.run_many("w", (1 / 0 for _ in range(1))))
    stepper.foreign = (ZeroDivisionError,)
    return stepper


def test_every_event_of_the_table_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """`BatchStepper` checks the promises of the scheduler at each step of these walks."""
    monkeypatch.setattr(batch_starts, "STARTS_PER_SAVE", 1)  # so that rows are saved often
    world: Any = Possibilities((*REPLIES, STARTED, STARTED, STARTED))
    wanders = [
        wander(make, world, walks=walks)
        for walks, make in (
            (30, lambda: stepping(Executions.wait_many(["a", "b"], timeout=20.0))),
            (30, lambda: stepping(Executions.wait_many([], timeout=20.0))),
            (30, lambda: stepping(Workflows.run_many("w", mixed(), concurrency=2, timeout=20.0))),
            (120, lambda: stepping(Workflows.run_many("w", mixed()[1:], on_start=print))),
            (30, lambda: stepping(Workflows.run_many("w", mixed()[2:], timeout=20.0))),
            (1, broken),
        )
    ]
    few = Journaled((STARTED, *REPLIES[:2]))
    rare = Journaled((*REPLIES, *[STARTED] * 3, *[LAST_PAGE] * 3))
    throttled = Journaled((REPLIES[5], LAST_PAGE))
    slow = Journaled((STARTED, REPLIES[0], LAST_PAGE))
    quick = Journaled((STARTED, LAST_PAGE))
    quick.durations = (0.0, 0.6)
    doubted = partial(rare.journaling, rows=[{}], on_unknown="start", settle_after=0.2)
    journaled: List[Any] = [
        (partial(few.journaling, rows=mixed(), settle_after=1.0), few, 400),
        (
            partial(quick.journaling, rows=[{}] * 4, on_unknown="start", settle_after=0.2),
            quick,
            200,
        ),
        (doubted, rare, 400),
        (partial(throttled.journaling, rows=[{}]), throttled, 30),
        (partial(slow.journaling, rows=[{}, {}], ordered=True, timeout=3.0), slow, 200),
    ]
    told = Journaled((STARTED, PAGE, PAGE))
    told.durations = (0.0, 1.5)
    journaled.append(
        (partial(told.journaling, rows=[{}], settle_after=0.2, progress=print), told, 200)
    )
    ends = Journaled(())
    ends.foreign = (ZeroDivisionError,)
    journaled.append((partial(ends.journaling, rows=(1 / 0 for _ in range(1))), ends, 1))
    for page, more in itertools.product(
        (PAGE, LAST_PAGE),
        (
            {"rows": mixed(), "settle_after": 1.0},
            {"rows": [{}], "settle_after": 30.0},
            {"rows": [{}], "on_unknown": "start", "settle_after": 0.2},
            {"rows": []},
            {"rows": [{}], "key": str},
            {"rows": [{"a": {1}}] * 16 + [{}]},
        ),
    ):
        world = Journaled((*REPLIES, *[STARTED] * 3, *[page] * 3))
        journaled.append((partial(world.journaling, **more), world, 30))
    walks = [wander(make, world, walks=walks, steps=60) for make, world, walks in journaled]
    assert_table_is_true(BatchMachine, *wanders, *walks, schedules=True)
    assert_table_is_true(LookupMachine, *walks)


class BatchProperties(MachineProperties):
    """No start goes out again once it may have worked; inputs are read only as there is room."""

    concurrency = 2
    responses = responses(
        st.one_of(
            st.sampled_from([reply.body for reply in REPLIES[:3]]),
            json_values.map(lambda value: a_response(body=an_envelope(value)).body),
        )
    )

    def make(self) -> Stepper:
        self.read = 0
        self.acted: Set[Optional[str]] = set()
        return stepping(
            Workflows.run_many("w", self.inputs(), concurrency=self.concurrency, timeout=30.0)
        )

    def inputs(self) -> Iterator[Any]:
        for given in itertools.cycle([{}, {"a": {1}}, {"b": 2}]):
            self.read += 1
            yield given

    def happens(self, event: str, *args: Any, after: Optional[float], jitter: float) -> None:
        if self.starting() and may_have_acted(Report(event, args)):
            self.acted.add(self.starting())
        super().happens(event, *args, after=after, jitter=jitter)
        assert self.starting() not in self.acted

    def starting(self) -> Optional[str]:
        """The idempotency key of the start that is under way."""
        action = self.stepper.action
        if isinstance(action, Send) and action.request.method == "POST":
            return action.request.headers["idempotency-key"]
        return None

    def check(self) -> None:
        assert self.read <= len(self.stepper.items) + self.concurrency + 1
        indexes = [item.index for item in self.stepper.items]
        assert len(set(indexes)) == len(indexes)
        if isinstance(self.stepper.action, Fail):
            pointless = (*FATAL_ERRORS, RateLimitError)
            assert isinstance(self.stepper.error, pointless)


TestBatchProperties = collected(BatchProperties)
