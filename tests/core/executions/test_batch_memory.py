"""What a batch keeps in memory while it runs."""

from __future__ import annotations

import tracemalloc
import weakref
from typing import Any, Dict, List

from flowmaestro_core.actions import Emit, Load, Send
from flowmaestro_core.executions.settling import LookupMachine, WalkEnd
from flowmaestro_core.records import digest_of
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.store import Loaded
from tests.harness.core.batch_steps import asked, running, says, starts
from tests.harness.core.stepping import Stepper, a_context, an_envelope


class Inputs(Dict[str, Any]):
    """The inputs of one row, whose lifetime a weak reference can observe."""


def test_ended_row_is_released_long_before_its_deadline() -> None:
    alive: List[weakref.ref[Inputs]] = []

    def rows() -> Any:
        for _ in range(8):
            row = Inputs()
            alive.append(weakref.ref(row))
            yield row

    run = running(rows(), concurrency=2, timeout=1e6)
    started = iter(["long", *"abcdefg"])
    ended = 0
    while ended < 6:
        if isinstance(run.action, Emit):
            ended += run.action.items[0].ok
        if not isinstance(run.action, Send):
            run.idles()
        elif asked(run) == "execute":
            starts(run, next(started))
        else:
            says(run, "running" if asked(run) == "long" else "completed")
    run.trace.clear()  # The stepper, not the machine, remembers every outcome.
    assert [index for index, row in enumerate(alive) if row() is not None] == [0, 7]


def test_body_of_a_start_is_released_while_its_execution_runs() -> None:
    text = "x" * 1_000_000
    run = running([{"text": text}] * 20, concurrency=20, timeout=1e6)
    tracemalloc.start()
    try:
        for number in range(20):
            starts(run, f"exec_{number}")
            run.trace.clear()  # The stepper, not the machine, remembers every request.
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 3_000_000


def test_a_lookup_keeps_only_executions_with_the_inputs_of_a_row_in_doubt() -> None:
    digests = {digest_of('{"inputs": {"n": 1}}'): 3}

    def page_of(page: int, size: int) -> Any:
        return Executions.list(page=page, per_page=size)

    lookup = Stepper(
        LookupMachine(page_of, WalkEnd(None, 0.0), digests, a_context(), "token", has_known=True)
    )
    lookup.start()
    for page in range(3):
        rows = [{"id": f"ex_{page}_{n}", "inputs": {"n": n}} for n in range(20)]
        lookup.replies(200, an_envelope(rows, pagination={"has_next": page < 2}))
        assert isinstance(lookup.action, Load)
        lookup.loads(Loaded())
    assert list(lookup.value.unclaimed) == ["ex_0_1", "ex_1_1", "ex_2_1"]
