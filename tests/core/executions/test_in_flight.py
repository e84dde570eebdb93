"""What is kept of the executions that a batch runs."""

from __future__ import annotations

import gc
from typing import List

from flowmaestro_core.actions import Emit, Wait
from flowmaestro_core.executions.in_flight import Flight
from tests.harness.core.batch_steps import asked, running, says, starts


def flights() -> List[Flight]:
    return [it for it in gc.get_objects() if isinstance(it, Flight)]


def test_an_execution_that_has_ended_is_forgotten_long_before_its_deadline() -> None:
    others = flights()
    run = running([{}] * 8, concurrency=2, timeout=1e6)
    started = iter(["long", *"abcdefg"])
    ended = 0
    while ended < 6:
        if isinstance(run.action, Emit):
            ended += run.action.item.ok
            run.takes()
        elif isinstance(run.action, Wait):
            run.waits()
        elif asked(run) == "execute":
            starts(run, next(started))
        else:
            says(run, "running" if asked(run) == "long" else "completed")
    ours = [it for it in flights() if not any(it is other for other in others)]
    assert {it.row.index for it in ours} <= {0, 6, 7}


def test_the_body_of_a_start_is_not_kept_while_its_execution_runs() -> None:
    others = flights()
    run = running([{"text": "long"}], timeout=1e6)
    starts(run, "a")
    (ours,) = [it for it in flights() if not any(it is other for other in others)]
    assert (ours.row.inputs, ours.row.body) == ({"text": "long"}, b"")
