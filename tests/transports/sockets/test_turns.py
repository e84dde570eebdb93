"""Calls on sockets take turns, where there are more of them than connections."""

from __future__ import annotations

from typing import Any

import pytest

from flowmaestro_core.http.messages import Request
from flowmaestro_transports.sockets.attempt import Attempt
from flowmaestro_transports.sockets.pool import Pool
from flowmaestro_transports.sockets.steps import Step, StepCut


def test_a_turn_that_comes_while_the_pool_is_closed_is_not_taken(monkeypatch: Any) -> None:
    """`close` cuts one step after another, and another may get what the first one frees."""
    pool, step = Pool(1), Step()
    pool.begin(step)
    take = pool.slots.take

    def take_late(step: Step, until: float) -> bool:
        pool.closed = True
        return take(step, until)

    monkeypatch.setattr(pool.slots, "take", take_late)
    unused: Any = None  # no route, no certificates: it does not come to that
    with pytest.raises(StepCut):
        Attempt(pool, step, 5.0).reach_head(unused, Request("GET", "", {}), "/", 0, unused)
    pool.end(step)
