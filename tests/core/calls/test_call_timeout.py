"""The time limit of a whole call: attempts, pauses and redirects together."""

from __future__ import annotations

import pytest

from flowmaestro_core.actions import Open, Send, Wait
from flowmaestro_core.errors import TimeoutError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.timeouts import Timeout
from tests.harness.core.calls import CANCEL, GET, opening, started
from tests.harness.core.stepping import Stepper, an_error

LIMIT = {"call_timeout": 10.0}


def timeout_of(call: Stepper) -> float:
    assert isinstance(call.action, (Send, Open))
    return call.action.timeout


def test_attempts_and_pauses_share_the_limit() -> None:
    call = started(GET, LIMIT)
    begun = call.now
    assert timeout_of(call) == 10.0
    call.fails(Phase.NOT_SENT, timed_out=True, after=4.0)
    call.waits()
    assert timeout_of(call) == begun + 10.0 - call.now < 6.0
    call.fails(Phase.NOT_SENT, timed_out=True, after=timeout_of(call))
    assert isinstance(call.error, TimeoutError)
    assert call.now == begun + 10.0
    assert len(call.error.attempts) == 2


def test_the_shorter_timeout_of_an_attempt_wins() -> None:
    assert timeout_of(started(GET, {"timeout": 3.0, **LIMIT})) == 3.0
    phases = timeout_of(started(GET, {"timeout": Timeout(30, connect=2), **LIMIT}))
    assert isinstance(phases, Timeout)
    assert (float(phases), phases.connect) == (10.0, 2.0)


def test_a_deadline_of_the_method_that_comes_sooner_wins() -> None:
    assert timeout_of(started(GET, LIMIT, deadline=1004.0)) == 4.0
    assert timeout_of(started(GET, LIMIT, deadline=1040.0)) == 10.0


def test_the_opening_of_a_stream_is_limited_up_to_its_head() -> None:
    call = opening(options=LIMIT)
    assert timeout_of(call) == 10.0
    call.opens(after=9.0)
    assert call.value.status == 200


def test_a_confirmation_is_part_of_the_call() -> None:
    call = started(CANCEL, LIMIT)
    call.fails(Phase.MAYBE_PROCESSED, after=4.0)
    assert isinstance(call.action, Wait)
    call.waits()
    begun = call.now
    call.replies(400, an_error("refused"), after=1.0)
    assert timeout_of(call) == 1010.0 - begun - 1.0


@pytest.mark.parametrize("limit", [LIMIT, {}])
def test_the_driver_learns_the_latest_time_of_the_response(limit: dict[str, float]) -> None:
    action = started(GET, limit).action
    assert isinstance(action, Send)
    assert action.latest == (1010.0 if limit else float("inf"))
