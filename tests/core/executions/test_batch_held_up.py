"""Many executions, of which one is slow to answer or to start: the others do not wait for it."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from flowmaestro_core.actions import Done, Emit, Fail, Send, Wait
from flowmaestro_core.errors import TimeoutError
from flowmaestro_core.executions.watch import LONGEST_INTERVAL
from flowmaestro_core.policy.polling import LEAST_TIMEOUT
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core import batch_steps
from tests.harness.core.batch_steps import asked, says, until_asked
from tests.harness.core.stepping import Stepper, an_envelope

MOST_PATIENCE = 8 * LEAST_TIMEOUT


def stepping(many: Any) -> Stepper:
    stepper = batch_steps.stepping(many)
    stepper.start()
    return stepper


def is_start(stepper: Stepper) -> bool:
    return isinstance(stepper.action, Send) and stepper.action.request.method == "POST"


def play(
    stepper: Stepper,
    ends: Dict[str, float],
    takes: Callable[[str], float],
    *,
    until: float = 1e9,
) -> Dict[str, float]:
    """When each execution was handed over, in seconds, if each ends at its time.

    `takes` says how many seconds an answer about one takes; they are lost where nobody has so
    much patience.
    """
    handed: Dict[str, float] = {}
    for _ in range(20_000):
        action, now = stepper.action, stepper.now - 1000.0
        if isinstance(action, (Done, Fail)) or now > until:
            return handed
        if isinstance(action, Emit):
            handed[action.items[0].execution_id] = now
        if not isinstance(action, Send):
            stepper.idles()
        elif takes(asked(stepper)) > action.timeout:
            stepper.times_out()
        else:
            one = asked(stepper)
            body = an_envelope(
                {"id": one, "status": "completed" if now >= ends[one] else "running"}
            )
            stepper.replies(200, body, after=takes(one))
    raise AssertionError("there is no end")


# Questions


def test_poll_that_hangs_delays_no_outcome() -> None:
    ends = {"hangs": 0.0, **{f"ex_{n}": float(n) for n in range(20)}}
    wait = stepping(Executions.wait_many(list(ends), timeout=300.0))
    handed = play(wait, ends, lambda one: 1e9 if one == "hangs" else 0.05, until=299.0)
    late = [handed[one] - ends[one] for one in ends if one != "hangs"]
    assert max(late) <= MOST_PATIENCE + 1.2 * LONGEST_INTERVAL
    assert sorted(late)[10] <= 2.5


def test_poll_timeout_doubles_up_to_a_bound() -> None:
    wait = stepping(Executions.wait_many(["hangs", "b"], timeout=3000.0))
    given: List[float] = []
    while len(given) < 6:
        if asked(until_asked(wait)) == "hangs":
            given.append(wait.action.timeout)  # type: ignore[union-attr]
            wait.times_out()
        else:
            says(wait, "running")
    assert given == pytest.approx([1.0, 2.0, 4.0, 8.0, 8.0, 8.0])


def test_poll_timeout_is_unbounded_if_every_poll_is_slow() -> None:
    ends = {"a": 0.0, "b": 0.0, "c": 0.0}
    wait = stepping(Executions.wait_many(list(ends), timeout=300.0))
    handed = play(wait, ends, lambda _: 9.0)
    assert set(handed) == set(ends)
    assert max(handed.values()) < 120.0


def test_hanging_execution_takes_at_most_half_of_the_time() -> None:
    ends = {"hangs": 0.0, "b": 100.0}
    wait = stepping(Executions.wait_many(list(ends), timeout=300.0))
    play(wait, ends, lambda one: 1e9 if one == "hangs" else 0.05, until=99.0)
    spent = sum(
        action.timeout
        for action in wait.trace
        if isinstance(action, Send) and action.request.url.endswith("hangs")
    )
    assert spent <= 60.0


def test_poll_timeout_adapts_to_a_slow_server() -> None:
    ends = {f"ex_{n}": 0.0 for n in range(10)}
    handed = play(stepping(Executions.wait_many(list(ends))), ends, lambda one: 3.0)
    assert len(handed) == 10
    assert max(handed.values()) <= 10 * 3.0 + 1.0 + 2.0 + 3.0


def test_only_execution_has_the_full_timeout_of_a_call() -> None:
    wait = stepping(Executions.wait_many(["a"], timeout=300.0))
    assert isinstance(wait.action, Send)
    assert wait.action.timeout == 30.0


# Starts


def busy(timeout: float = 300.0, **more: Any) -> Stepper:
    """One execution, "a", is in flight, and the second is about to be started."""
    run = stepping(Workflows.run_many("wf_1", [{}, {}], timeout=timeout, **more))
    run.replies(202, an_envelope({"execution_id": "a"}))
    assert is_start(run)
    return run


def until_start(run: Stepper) -> List[str]:
    """What is asked, with `running` for an answer, until a start goes out."""
    questions: List[str] = []
    while not is_start(run):
        if isinstance(run.action, Send):
            questions.append(asked(run))
            run.replies(200, an_envelope({"id": questions[-1], "status": "running"}), after=0.01)
        else:
            run.idles()
    return questions


def test_start_with_retry_after_delays_no_outcome() -> None:
    run = busy()
    run.replies(503, headers={"Retry-After": "60"})
    assert run.action == Wait(pytest.approx(0.15))
    assert run.action.because is not None
    assert run.action.because.delay == 60.0
    run.waits()
    run.replies(200, an_envelope({"id": "a", "status": "completed"}))
    assert run.items[-1].execution_id == "a"
    assert run.now < 1001.0
    run.takes()
    assert until_start(run) == []
    assert run.now == pytest.approx(1060.0)


def test_rejected_start_has_no_more_attempts_than_a_call() -> None:
    run = busy()
    attempts = 0
    while not isinstance(run.action, Emit):
        if not is_start(run):
            until_start(run)
        attempts += 1
        run.replies(503, headers={"Retry-After": "5"})
    assert attempts == 4
    assert len(run.action.items[0].error.attempts) == 4
    assert run.action.items[0].error.gave_up == "max_retries=3 is used up"


def test_throttled_start_delays_every_request() -> None:
    run = busy()
    run.replies(429, headers={"Retry-After": "7"})
    assert run.action == Wait(7.0)
    run.waits()
    assert is_start(run)


def test_start_that_timed_out_while_parked_is_not_sent() -> None:
    """A request in the last moment could be cut off while it is being acted upon."""
    run = busy(timeout=10.0)
    run.replies(503, headers={"Retry-After": "5"})
    run.waits()
    run.replies(200, an_envelope({"id": "a", "status": "completed"}))
    assert isinstance(run.action, Emit)
    run.takes(after=20.0)
    assert isinstance(run.action, Emit)
    assert isinstance(run.action.items[0].error, TimeoutError)
    assert [request.method for request in run.sent].count("POST") == 2


@pytest.mark.parametrize("told", ["429", "hangs"])
def test_wait_ends_soon_after_its_deadline(told: str) -> None:
    """Each has its last question; but of a server that hangs not all of them one by one."""
    wait = stepping(Executions.wait_many([f"ex_{n}" for n in range(100)], timeout=30.0))
    throttled = {"Retry-After": "9999999999"}
    wait.plays(wait.times_out if told == "hangs" else lambda: wait.replies(429, None, throttled))
    assert len(wait.items) == 100
    assert wait.now <= 1000.0 + 30.0 + 5 * LEAST_TIMEOUT


# The process is held up


def held_up(*ids: str) -> Stepper:
    """A wait with a timeout of 10 s, whose first poll is lost after a pause of a minute."""
    wait = stepping(Executions.wait_many(ids, timeout=10.0))
    wait.fails(timed_out=True, after=60.0)
    return wait


def test_lost_poll_after_a_pause_ends_no_execution_unpolled() -> None:
    """Each execution still has its last poll, that of the lost poll included."""
    names = [f"ex_{n}" for n in range(6)]
    wait = held_up(*names)
    while not isinstance(wait.action, Done):
        if isinstance(wait.action, Send):
            assert 0.0 < wait.action.timeout <= LEAST_TIMEOUT
            wait.replies(200, an_envelope({"id": asked(wait), "status": "completed"}), after=0.01)
        else:
            wait.takes() if isinstance(wait.action, Emit) else wait.waits()
    assert sorted(item.execution_id for item in wait.items if item.ok) == names


def test_after_a_pause_three_executions_are_polled_for_all_if_the_server_hangs() -> None:
    wait = held_up(*(f"ex_{n}" for n in range(100)))
    wait.plays(wait.times_out)
    assert all(isinstance(item.error, TimeoutError) for item in wait.items)
    assert len(wait.items) == 100
    assert wait.now <= 1060.0 + 3 * LEAST_TIMEOUT
