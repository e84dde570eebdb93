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
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowmaestro_core.actions import Done, Emit, Fail, Load, Save, Send, Wait
from flowmaestro_core.context import Context
from flowmaestro_core.errors import CheckpointConflict, StartUnknownError
from flowmaestro_core.executions.outcome import still_runs
from flowmaestro_core.http.dates import http_date
from flowmaestro_core.http.messages import Phase, Request
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import BatchStepper
from tests.harness.core.journals import MemoryJournal
from tests.harness.core.stepping import Stepper, a_context, a_response, an_envelope, an_error

SETTLE_AFTER = 60.0
ROWS = [{"n": n // 2} for n in range(6)]
"""Two by two with equal inputs."""


class Execution:
    def __init__(
        self, number: int, inputs: Any, created_at: float, listed_at: float, *, ours: bool = True
    ) -> None:
        self.id = f"ex_{number}"
        self.ours = ours
        self.inputs = inputs
        self.created_at = created_at
        self.listed_at = listed_at
        self.status = "running"

    def shown(self) -> Dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "inputs": self.inputs,
            "created_at": datetime.fromtimestamp(self.created_at, timezone.utc).isoformat(),
            "outputs": None,
            "error": None,
        }


class Server:
    """Accepts starts, lists what it has accepted, and may be slow to do so."""

    def __init__(self) -> None:
        self.executions = [
            Execution(0, ROWS[0], -100.0, 0.0, ours=False),
            Execution(1, {}, 0.0, 0.0),
        ]
        """The executions from before the batch. One has the inputs of a row."""
        self.late: List[Any] = []
        """Starts that are on their way, with the time by which they arrive."""

    def accept(self, request: Request, now: float, listed_after: float) -> Execution:
        inputs = json.loads(request.body)["inputs"]
        execution = Execution(len(self.executions), inputs, now, now + listed_after)
        self.executions.append(execution)
        return execution

    def foreign(self, inputs: Any, now: float) -> None:
        """Somebody else starts an execution."""
        self.executions.append(Execution(len(self.executions), inputs, now, now, ours=False))

    def page(self, request: Request, now: float, **more: Any) -> Any:
        listed = [it for it in reversed(self.executions) if it.listed_at <= now]
        query = dict(part.split("=") for part in request.url.partition("?")[2].split("&"))
        size, number = int(query["per_page"]), int(query["page"])
        rows = listed[(number - 1) * size : number * size]
        more["pagination"] = {"has_next": number * size < len(listed)}
        headers = {"Date": http_date(now)}
        return a_response(200, an_envelope([it.shown() for it in rows], **more), headers)

    def started(self) -> Counter[str]:
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
        self.server = Server()
        self.stepper: Optional[Stepper] = None
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

    def replies(self, response: Any) -> None:
        assert self.stepper is not None
        self.arrive()
        self.stepper.now = self.now
        status, body = response.status, json.loads(response.body or b"null")
        self.stepper.replies(status, body, response.headers.pairs)

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
        assert self.stepper is not None
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
        assert self.stepper is not None
        last = self.stepper.machine.last_save()
        if last is not None:
            with suppress(CheckpointConflict):  # It is closed while it saves.
                self.journal.save(last.states)
        self.stepper = None

    @precondition(lambda self: self.sends("POST"))
    @rule(listed_after=st.floats(0, SETTLE_AFTER - 2))
    def a_start_is_accepted(self, listed_after: float) -> None:
        execution = self.server.accept(self.action.request, self.now, listed_after)
        self.replies(a_response(202, an_envelope({"execution_id": execution.id})))

    @precondition(lambda self: self.sends("POST"))
    @rule(
        acted=st.sampled_from(["at once", "late", "never"]),
        by=st.sampled_from(["reset", "timeout", "500", "death"]),
    )
    def a_starts_reply_is_lost(self, acted: str, by: str) -> None:
        assert self.stepper is not None
        if acted == "at once":
            self.server.accept(self.action.request, self.now, SETTLE_AFTER - 2)
        elif acted == "late":
            self.server.late.append((self.action.request, self.now + SETTLE_AFTER - 2))
        if by == "death":
            self.it_dies()
        elif by == "500":
            self.replies(a_response(500))
        else:
            self.pass_time(self.action.timeout if by == "timeout" else 0.0)
            self.stepper.now = self.now
            self.stepper.fails(Phase.MAYBE_PROCESSED, timed_out=by == "timeout")

    @precondition(lambda self: self.sends("POST"))
    @rule(how=st.sampled_from(["not sent", "429", "422", "503", "401", "day"]))
    def a_start_is_refused(self, how: str) -> None:
        assert self.stepper is not None
        if how == "not sent":
            self.stepper.now = self.now
            self.stepper.fails(Phase.NOT_SENT)
        elif how == "day":
            self.replies(a_response(429, an_error("rate_limit_exceeded", window="day")))
        else:
            headers = {"Retry-After": "50"} if how in ("429", "503") else {}
            self.replies(a_response(int(how), headers=headers))

    @precondition(lambda self: self.sends("GET", many=False))
    @rule(status=st.sampled_from(["running", "completed", "failed", "404"]))
    def an_execution_is_asked_for(self, status: str) -> None:
        if status == "404":
            self.replies(a_response(404))
            return
        name = self.action.request.url.rpartition("/")[2]
        execution = next(it for it in self.server.executions if it.id == name)
        execution.status = status
        self.replies(a_response(200, an_envelope(execution.shown())))

    @precondition(lambda self: self.sends("GET", many=True))
    @rule(how=st.sampled_from(["true", "true", *LOOK_UPS]))
    def a_page_is_asked_for(self, how: str) -> None:
        self.arrive()
        if self.on_unknown == "start" and (how != "true" or self.has_foreign):
            self.by_wish = True
        if how == "empty" and "per_page=1&" in self.action.request.url:
            how = "true"  # It is the baseline: a key of another workspace could not start anything.
        status, _, long = how.partition(" ")
        if how == "true":
            self.replies(self.server.page(self.action.request, self.now))
        elif how == "too large":
            self.replies(self.server.page(self.action.request, self.now, padding="x" * 20_000))
        elif how == "empty":  # so it is with the key of another workspace
            self.replies(a_response(200, an_envelope([], pagination={"has_next": False})))
        else:
            headers = {"Retry-After": "400" if long else "5"} if status == "429" else {}
            self.replies(a_response(int(status), headers=headers))

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
        assert self.stepper is not None
        self.pass_time(self.action.seconds)
        self.stepper.now = self.now
        self.stepper.waits(after=0.0)

    @precondition(lambda self: isinstance(self.action, Emit))
    @rule(after=st.sampled_from([0.0, 100.0]))
    def it_is_taken(self, after: float) -> None:
        assert self.stepper is not None
        self.pass_time(after)
        self.stepper.now = self.now
        self.stepper.takes()

    @precondition(lambda self: isinstance(self.action, (Done, Fail)))
    @rule()
    def it_is_over(self) -> None:
        assert self.stepper is not None
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
        for inputs, times in self.server.started().items():
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
        assert self.server.started()["{}"] == 1

    def unknown(self) -> List[int]:
        """The rows of which the batch could not find out."""
        assert self.stepper is not None
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


@pytest.mark.no_cover
@pytest.mark.parametrize("on_unknown", ["error", "start"])
@pytest.mark.parametrize("look_up", [*LOOK_UPS, "more candidates"])
def test_no_row_is_started_twice_after_a_crash_at_each_save(look_up: str, on_unknown: str) -> None:
    """It dies just before something is in the journal, or just after."""
    in_doubt = 0
    for saves, kept in itertools.product(range(10), (False, True)):
        batch = CrashingBatch()
        batch.rows = ROWS[:4]
        batch.the_same_call_is_made(0.0)
        batch.goes_on(saves=saves)
        assert isinstance(batch.action, Save)
        if kept:
            batch.journal.save(batch.action.states)
        batch.it_dies()
        starting = {int(n) for n, row in batch.journal.rows.items() if row["state"] == "starting"}
        in_doubt += len(starting)
        if look_up == "more candidates":
            for inputs in batch.rows * 2:
                batch.server.foreign(inputs, batch.now)
        batch.the_same_call_is_made(0.0, on_unknown)
        batch.goes_on("true" if look_up == "more candidates" else look_up)
        can_tell = look_up == "true" or on_unknown == "start"
        assert batch.unknown() == ([] if can_tell else sorted(starting))
        batch.teardown()
    assert in_doubt >= 8


@pytest.mark.parametrize("look_up", ["true", "empty"])
def test_rows_of_a_workflow_without_executions_are_settled_by_its_whole_list(look_up: str) -> None:
    in_doubt = 0
    for saves, kept in itertools.product(range(1, 10), (False, True)):
        batch = CrashingBatch()
        batch.rows = ROWS[:4]
        batch.server.executions.clear()
        batch.the_same_call_is_made(0.0)
        batch.goes_on(saves=saves)
        if kept:
            batch.journal.save(batch.action.states)
        batch.it_dies()
        starting = {int(n) for n, row in batch.journal.rows.items() if row["state"] == "starting"}
        if not batch.server.executions:
            continue
        in_doubt += len(starting)
        batch.the_same_call_is_made(0.0)
        batch.goes_on(look_up)
        assert batch.unknown() == ([] if look_up == "true" else sorted(starting))
        batch.it_dies()
        batch.the_same_call_is_made(0.0)
        batch.goes_on()
        assert batch.unknown() == []
        assert sum(batch.server.started().values()) == len(batch.rows)
    assert in_doubt >= 6
