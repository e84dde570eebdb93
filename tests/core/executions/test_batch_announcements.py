"""When the starts of a batch are announced: before they are sent, and again if they are held up."""

from __future__ import annotations

import json
from typing import Any, List

import pytest

from flowmaestro_core.actions import Load, Save, Send
from flowmaestro_core.errors import JournalError
from flowmaestro_core.machines import machine_for
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import BatchStepper, starts
from tests.harness.core.journals import MemoryJournal, MemoryStore
from tests.harness.core.stepping import Stepper, a_context, an_envelope

ROWS = [{"n": n} for n in range(5)]


class Process:
    """A batch with a store, up to its first start."""

    def __init__(self, *, locked: bool = False, **more: Any) -> None:
        batch = Workflows.run_many(
            "w", ROWS, journal="path" if locked else MemoryStore(), settle_after=60.0, **more
        )
        self.stepper: Stepper = BatchStepper(machine_for(batch, a_context(), "token"))
        self.journal = MemoryJournal(lambda: self.stepper.now)
        self.stepper.start()
        self.goes_on()

    def goes_on(self) -> Any:
        """Carry out what needs no server but the baseline, up to the next start or poll."""
        stepper = self.stepper
        while not isinstance(stepper.action, Send) or "per_page=1&" in stepper.action.request.url:
            if isinstance(stepper.action, Send):
                stepper.replies(200, an_envelope([]))
            else:
                self.step()
        return stepper.action

    def step(self) -> None:
        if isinstance(self.stepper.action, (Load, Save)):
            self.journal.carry_out(self.stepper)
        else:
            self.stepper.idles()

    @property
    def announced(self) -> List[List[int]]:
        """The rows that each save announced."""
        saves = [action for action in self.stepper.trace if isinstance(action, Save)]
        rows = [[it for it in save.states if it.get("state") == "starting"] for save in saves]
        return [[int(it["key"]) for it in announced] for announced in rows if announced]


@pytest.mark.parametrize("locked", [True, False])
def test_no_more_rows_are_announced_than_there_is_room(locked: bool) -> None:
    process = Process(locked=locked, concurrency=2)
    assert process.announced == [[0, 1]]
    for name in ("ex_0", "ex_1"):
        starts(process.stepper, name)
        process.goes_on()
    asked = process.stepper.action.request.url.rpartition("/")[2]
    process.stepper.replies(200, an_envelope({"id": asked, "status": "completed"}))
    process.goes_on()
    assert process.announced == [[0, 1], [2]]


@pytest.mark.parametrize(("locked", "saves"), [(True, 1), (False, 2)])
def test_start_that_is_held_up_is_announced_again(locked: bool, saves: int) -> None:
    process = Process(locked=locked, concurrency=1)
    process.stepper.replies(429, headers={"Retry-After": "45"})
    assert process.goes_on().request.method == "POST"
    assert process.announced == [[0]] * saves


@pytest.mark.parametrize(("locked", "timeout"), [(True, 30.0), (False, 10.0)])
def test_attempt_ends_within_half_of_settle_after(locked: bool, timeout: float) -> None:
    process = Process(locked=locked, concurrency=1)
    process.stepper.replies(429, headers={"Retry-After": "20"})
    assert process.goes_on().timeout == timeout


def test_saves_that_take_too_long_end_the_batch() -> None:
    process = Process(concurrency=1)
    process.stepper.replies(429, headers={"Retry-After": "45"})
    while process.announced == [[0]]:
        process.step()
    for _ in range(3):
        assert isinstance(process.stepper.action, Save)
        process.stepper.saves(after=31.0)
    error = process.stepper.error
    assert isinstance(error, JournalError)
    assert "save took longer than half of settle_after, 3 times" in str(error)
    assert len(process.stepper.sent) == 2, "the baseline and the first attempt"


@pytest.mark.parametrize("step", [1, -1])
def test_announcement_made_again_is_fenced(step: int) -> None:
    """Another process has saved, or the store has lost a save."""
    process = Process(concurrency=1)
    process.stepper.replies(429, headers={"Retry-After": "45"})
    header = json.loads(process.journal.states["flowmaestro:header"])
    process.journal.states["flowmaestro:header"] = json.dumps(
        {**header, "serial": header["serial"] + step}
    )
    while process.stepper.machine.state != "failed":
        process.step()
    assert process.stepper.error.code == "journal_busy"
    assert len(process.stepper.sent) == 2
    machine: Any = process.stepper.machine
    assert machine.last_save() is None, "its serial number would follow that of the other process"


def test_methods_of_a_store_are_callbacks() -> None:
    """So a sync client refuses coroutine functions at the call."""
    store = MemoryStore()
    batch = Workflows.run_many("w", ROWS, journal=store)
    names = [name for name, given in batch.callbacks().items() if given is not None]
    assert names == ["journal.load", "journal.save", "journal.known"]
    assert not any(Workflows.run_many("w", ROWS, journal="path").callbacks().values())
