"""How long an announcement holds, and what a start that is not sent in time is told."""

from __future__ import annotations

from typing import Any, List

import pytest

from flowmaestro_core.errors import ConnectionError
from flowmaestro_core.executions.saved_states import journal_unusable
from flowmaestro_core.executions.sending import Sender
from flowmaestro_core.executions.start import ANNOUNCED, REFUSED, Start


class FakeCall:
    """The parts of a `CallMachine` that a `Sender` uses."""

    send_before = 0.0
    last_failure = None


def sender(settle_after: float = 60.0, **more: Any) -> Sender:
    return Sender(settle_after, journal_unusable, **more)


@pytest.mark.parametrize(
    ("settle_after", "now", "again"),
    [(60.0, 29.0, False), (60.0, 29.1, True), (2.0, 0.5, False), (2.0, 0.6, True)],
)
def test_start_is_sent_within_half_of_settle_after(
    settle_after: float, now: float, again: bool
) -> None:
    """A second is left for the response, or a quarter of a short `settle_after`."""
    sending, start = sender(settle_after), Start()
    assert sending.announce([start], 0.0)
    assert sending.announce([start], now) is again


def test_start_of_a_locked_store_is_announced_once() -> None:
    sending, start = sender(is_locked=True), Start()
    assert sending.announce([start], 0.0)
    assert not sending.announce([start], 1e9)


def test_all_starts_are_announced_with_the_first_one() -> None:
    starts: List[Start] = [Start(), Start()]
    assert sender().announce(starts, 0.0)
    assert [start.state for start in starts] == [ANNOUNCED] * 2


def test_call_that_was_held_up_continues_in_the_new_time() -> None:
    sending, start = sender(), Start()
    call: Any = FakeCall()
    sending.announce([start], 0.0)
    sending.send(start, lambda: call)
    sending.hold_up(start, call)
    sending.announce([start], 50.0)
    assert sending.send(start, lambda: pytest.fail("another call")) is call
    assert call.send_before == 80.0
    assert sending.parked is None


def test_own_failure_is_the_cause_of_a_late_start_before_that_of_another_one() -> None:
    own, other = ConnectionError("own"), ConnectionError("other")
    start = Start()
    sender().expire(start, other)
    assert (start.state, start.error and start.error.__cause__) == (REFUSED, other)
    sending, start = sender(), Start()
    call: Any = FakeCall()
    call.last_failure = own
    sending.announce([start], 0.0)
    sending.send(start, lambda: call)
    sending.hold_up(start, call)
    sending.expire(start, other)
    assert start.error is not None
    assert start.error.__cause__ is own
    assert sending.parked is None
