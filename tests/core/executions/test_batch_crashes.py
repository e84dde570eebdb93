"""A batch with a journal, through crashes at every point and whatever a lookup answers.

The promise: no row is started twice, provided that an accepted start is listed within
`settle_after`. Rows with equal inputs are one another's equals: no more are started than there are.
What somebody else starts is taken for a row's, or leaves rows unknown; it makes no row start twice.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from contextlib import suppress
from typing import Any, List, Optional, Tuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowmaestro_core.actions import Done, Emit, Fail, Load, Save, Send, Wait
from flowmaestro_core.context import Context
from flowmaestro_core.errors import CheckpointConflict, StartUnknownError
from flowmaestro_core.executions.outcome import still_runs
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import BatchStepper
from tests.harness.core.durable import SETTLE_AFTER, Execution, Server
from tests.harness.core.journals import MemoryJournal
from tests.harness.core.stepping import a_context, an_envelope, an_error

ROWS = [{"n": n // 2} for n in range(6)]
"""Two by two with equal inputs."""


class CrashServer(Server):
    """A server whose starts may arrive late, and where others start executions as well."""

    def __init__(self) -> None:
        super().__init__()
        self.executions = [
            Execution("ex_0", ROWS[0], -100.0, 0.0, ours=False),
            Execution("ex_baseline", {}, 0.0, 0.0),
        ]
        """The executions from before the batch. One has the inputs of a row."""
        self.late: List[Any] = []
        """Starts that are on their way, with the time by which they arrive."""

    def foreign(self, inputs: Any, now: float) -> None:
        """Somebody else starts an execution."""
        name = f"foreign_{len(self.executions)}"
        self.executions.append(Execution(name, inputs, now, now, ours=False))

    def counts(self) -> Counter[str]:
        return Counter(json.dumps(it.inputs) for it in self.executions if it.ours)


LOOK_UPS = ("true", "too large", "429", "429 for long", "500", "404", "empty")
"""What the server answers when it is asked for a page of the list."""
CONTEXT = Context(a_context().options, max_reply_size=20_000)


class CrashingBatch(RuleBasedStateMachine):
    """One rule for each thing that can happen next; a crash can happen always."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rows = ROWS
        self.journal = MemoryJournal(lambda: self.now)
        self.server = CrashServer()
        self.stepper: Any = None
        self.on_unknown = "error"
        self.by_wish = False
        """Whether rows may have been started twice because the caller wished for it."""

    @property
    def action(self) -> Any:
        return None if self.stepper is None else self.stepper.action

    def sends(self, method: str, *, many: Optional[bool] = None) -> bool:
        action = self.action
        if not isinstance(action, Send) or action.request.method != method:
            return False
        return many is None or many is ("?" in action.request.url)

    def replies(self, status: int, body: Any = None, headers: Any = ()) -> None:
        self.arrive()
        self.stepper.now = self.now
        self.stepper.replies(status, body, headers)

    def arrive(self) -> None:
        """What is on its way arrives in time, whoever has given it up."""
        for request, by in self.server.late[:]:
            if by <= self.now:
                self.server.late.remove((request, by))
                self.server.accept(request, by, 0.0)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.arrive()

    @precondition(lambda self: self.stepper is None)
    @rule(
        idle=st.sampled_from([0.0, 0.5, 30.0, 70.0, 1e4]),
        on_unknown=st.sampled_from(["error", "error", "start"]),
    )
    def the_same_call_is_made(self, idle: float, on_unknown: str = "error") -> None:
        self.pass_time(idle)
        self.on_unknown = on_unknown
        batch = Workflows.run_many(
            "w",
            self.rows,
            concurrency=2,
            journal="unused",
            settle_after=SETTLE_AFTER,
            on_unknown=on_unknown,  # type: ignore[arg-type]
        )
        self.stepper = BatchStepper(machine_for(batch, CONTEXT, "token"))
        self.stepper.now = self.now
        self.stepper.start()

    @precondition(lambda self: isinstance(self.action, (Load, Save)))
    @rule()
    def the_store_does_it(self) -> None:
        self.stepper.now = self.now
        self.journal.carry_out(self.stepper)

    @precondition(lambda self: isinstance(self.action, Save))
    @rule()
    def it_dies_when_it_is_saved(self) -> None:
        self.journal.save(self.action.states)
        self.it_dies()

    @precondition(lambda self: self.stepper is not None)
    @rule()
    def it_dies(self) -> None:
        self.stepper = None

    @precondition(lambda self: self.stepper is not None)
    @rule()
    def it_is_closed(self) -> None:
        last = self.stepper.machine.last_save()
        if last is not None:
            with suppress(CheckpointConflict):  # It is closed while it saves.
                self.journal.save(last.states)
        self.stepper = None

    @precondition(lambda self: self.sends("POST"))
    @rule(listed_after=st.floats(0, SETTLE_AFTER - 2))
    def a_start_is_accepted(self, listed_after: float) -> None:
        execution = self.server.accept(self.action.request, self.now, listed_after)
        self.replies(202, an_envelope({"execution_id": execution.id}))

    @precondition(lambda self: self.sends("POST"))
    @rule(
        acted=st.sampled_from(["at once", "late", "never"]),
        by=st.sampled_from(["reset", "timeout", "500", "death"]),
    )
    def a_starts_reply_is_lost(self, acted: str, by: str) -> None:
        if acted == "at once":
            self.server.accept(self.action.request, self.now, SETTLE_AFTER - 2)
        elif acted == "late":
            self.server.late.append((self.action.request, self.now + SETTLE_AFTER - 2))
        if by == "death":
            self.it_dies()
        elif by == "500":
            self.replies(500)
        else:
            self.pass_time(self.action.timeout if by == "timeout" else 0.0)
            self.stepper.now = self.now
            self.stepper.fails(Phase.MAYBE_PROCESSED, timed_out=by == "timeout")

    @precondition(lambda self: self.sends("POST"))
    @rule(how=st.sampled_from(["not sent", "429", "422", "503", "401", "day"]))
    def a_start_is_refused(self, how: str) -> None:
        if how == "not sent":
            self.stepper.now = self.now
            self.stepper.fails(Phase.NOT_SENT)
        elif how == "day":
            self.replies(429, an_error("rate_limit_exceeded", window="day"))
        else:
            headers = {"Retry-After": "50"} if how in ("429", "503") else {}
            self.replies(int(how), None, headers)

    @precondition(lambda self: self.sends("GET", many=False))
    @rule(status=st.sampled_from(["running", "completed", "failed", "404"]))
    def an_execution_is_asked_for(self, status: str) -> None:
        if status == "404":
            self.replies(404)
            return
        name = self.action.request.url.rpartition("/")[2]
        execution = next(it for it in self.server.executions if it.id == name)
        execution.status = status
        self.replies(200, an_envelope(execution.shown()))

    @precondition(lambda self: self.sends("GET", many=True))
    @rule(how=st.sampled_from(["true", "true", *LOOK_UPS]))
    def a_page_is_asked_for(self, how: str) -> None:
        self.arrive()
        if self.on_unknown == "start" and (how != "true" or self.has_foreign):
            self.by_wish = True
        if how == "empty" and "per_page=1&" in self.action.request.url:
            how = "true"  # It is the baseline: a key of another workspace could not start anything.
        status, _, long = how.partition(" ")
        if how in ("true", "too large"):
            _, body, headers = self.server.answer(self.action.request, self.now)
            self.replies(200, {**body, "padding": "x" * (0 if how == "true" else 20_000)}, headers)
        elif how == "empty":  # so it is with the key of another workspace
            self.replies(200, an_envelope([], pagination={"has_next": False}))
        else:
            headers = {"Retry-After": "400" if long else "5"} if status == "429" else {}
            self.replies(int(status), None, headers)

    @precondition(lambda self: not self.has_foreign)
    @rule(inputs=st.sampled_from(ROWS), times=st.integers(1, 3))
    def somebody_else_starts_the_same(self, inputs: Any, times: int) -> None:
        for _ in range(times):
            self.server.foreign(inputs, self.now)

    @property
    def has_foreign(self) -> bool:
        return not all(it.ours for it in self.server.executions[1:])

    @precondition(lambda self: isinstance(self.action, Wait))
    @rule()
    def it_waits(self) -> None:
        self.pass_time(self.action.seconds)
        self.stepper.now = self.now
        self.stepper.waits(after=0.0)

    @precondition(lambda self: isinstance(self.action, Emit))
    @rule(after=st.sampled_from([0.0, 100.0]))
    def it_is_taken(self, after: float) -> None:
        self.pass_time(after)
        self.stepper.now = self.now
        self.stepper.takes()

    @precondition(lambda self: isinstance(self.action, (Done, Fail)))
    @rule()
    def it_is_over(self) -> None:
        items = [it for it in self.stepper.items if not still_runs(it)]
        indexes = [it.index for it in items]
        assert len(set(indexes)) == len(indexes)
        if isinstance(self.action, Done):
            assert sorted(indexes) == list(range(len(self.rows)))
        ids = [it.execution_id for it in items if it.execution_id is not None]
        assert len(set(ids)) == len(ids)
        assert "ex_0" not in ids, "it is older than the batch"
        self.it_dies()

    @invariant()
    def no_row_is_started_twice(self) -> None:
        self.arrive()
        for inputs, times in self.server.counts().items():
            assert times <= 2 or self.by_wish, f"{inputs} was started {times} times"

    def teardown(self) -> None:
        """Left alone, with a server that is well, the batch comes to its end; so does the next."""
        if self.stepper is not None:
            self.goes_on()
            self.it_is_over()
        self.the_same_call_is_made(0.0)
        self.goes_on()
        assert isinstance(self.action, Done)
        if not self.has_foreign:
            assert self.unknown() == []
        assert self.server.counts()["{}"] == 1

    def unknown(self) -> List[int]:
        """The rows of which the batch could not find out."""
        items = [it for it in self.stepper.items if not still_runs(it)]
        return sorted(it.index for it in items if isinstance(it.error, StartUnknownError))

    def goes_on(self, look_up: str = "true", *, saves: int = 400) -> None:
        """Without other trouble, to its end or up to a save, after so many others."""
        for _ in range(400):
            if isinstance(self.action, Load):
                self.the_store_does_it()
            elif isinstance(self.action, Save):
                if not saves:
                    return
                saves -= 1
                self.the_store_does_it()
            elif isinstance(self.action, Wait):
                self.it_waits()
            elif isinstance(self.action, Emit):
                self.it_is_taken(0.0)
            elif self.sends("POST"):
                self.a_start_is_accepted(0.0)
            elif self.sends("GET", many=True):
                self.a_page_is_asked_for(look_up)
            elif self.sends("GET"):
                self.an_execution_is_asked_for("completed")
            else:
                return
            self.no_row_is_started_twice()
        pytest.fail("there is no end")


TestCrashes = pytest.mark.no_cover(CrashingBatch.TestCase)
TestCrashes.settings = settings(
    max_examples=30, stateful_step_count=60, deadline=None, database=None
)


def died_at(saves: int, kept: bool, *, is_new: bool = False) -> Tuple[CrashingBatch, List[int]]:
    """A batch that died just before something was saved, or just after; its rows in doubt.

    With `is_new`, the workflow had no execution before.
    """
    batch = CrashingBatch()
    batch.rows = ROWS[:4]
    if is_new:
        batch.server.executions.clear()
    batch.the_same_call_is_made(0.0)
    batch.goes_on(saves=saves)
    assert isinstance(batch.action, Save)
    if kept:
        batch.journal.save(batch.action.states)
    batch.it_dies()
    rows = batch.journal.rows.items()
    return batch, sorted(int(n) for n, row in rows if row["state"] == "starting")


@pytest.mark.no_cover
@pytest.mark.parametrize("on_unknown", ["error", "start"])
@pytest.mark.parametrize("look_up", [*LOOK_UPS, "more candidates"])
def test_no_row_is_started_twice_after_a_crash_at_each_save(look_up: str, on_unknown: str) -> None:
    in_doubt = 0
    for saves, kept in itertools.product(range(10), (False, True)):
        batch, starting = died_at(saves, kept)
        in_doubt += len(starting)
        if look_up == "more candidates":
            for inputs in batch.rows * 2:
                batch.server.foreign(inputs, batch.now)
        batch.the_same_call_is_made(0.0, on_unknown)
        batch.goes_on("true" if look_up == "more candidates" else look_up)
        can_tell = look_up == "true" or on_unknown == "start"
        assert batch.unknown() == ([] if can_tell else starting)
        batch.teardown()
    assert in_doubt >= 8


@pytest.mark.parametrize("look_up", ["true", "empty"])
def test_rows_of_a_workflow_without_executions_are_settled_by_its_whole_list(look_up: str) -> None:
    in_doubt = 0
    for saves, kept in itertools.product(range(1, 10), (False, True)):
        batch, starting = died_at(saves, kept, is_new=True)
        if not batch.server.executions:
            continue
        in_doubt += len(starting)
        batch.the_same_call_is_made(0.0)
        batch.goes_on(look_up)
        assert batch.unknown() == ([] if look_up == "true" else starting)
        batch.it_dies()
        batch.the_same_call_is_made(0.0)
        batch.goes_on()
        assert batch.unknown() == []
        assert sum(batch.server.counts().values()) == len(batch.rows)
    assert in_doubt >= 6
