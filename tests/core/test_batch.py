"""Following many executions: what is started when, what is asked, and that nothing is lost."""

from __future__ import annotations

import itertools
import json
from functools import partial
from typing import Any, Dict, Iterator, List, Optional, Set

import pytest
from hypothesis import strategies as st
from journals import Journaled
from properties import MachineProperties, collected, json_values, responses
from stepping import (
    Possibilities,
    Report,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    may_have_acted,
    wander,
)

from flowmaestro_core.actions import Done, Emit, Fail, Send, Wait
from flowmaestro_core.errors import (
    AuthenticationError,
    ConnectionError,
    InsufficientCreditsError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TimeoutError,
    ValidationError,
)
from flowmaestro_core.executions.batch import Batch, BatchMachine, RunStarted
from flowmaestro_core.executions.outcome import BatchProgress, RunOutcome
from flowmaestro_core.executions.settling import LookUpMachine
from flowmaestro_core.executions.starts import PAUSE_AFTER_REFUSAL, POINTLESS
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows

EPOCH = "Sun, 06 Nov 1994 08:49:37 GMT"
DAY_SPENT = an_error("rate_limit_exceeded", window="day", retry_after=5)
NEARLY_SPENT = {
    "Date": EPOCH,
    "X-RateLimit-Limit": "60",
    "X-RateLimit-Remaining": "1",
    "X-RateLimit-Reset": str(784111777 + 10),
}


def stepping(many: Any, **options: Any) -> Stepper:
    assert isinstance(many, Batch)
    machine = many.machine(a_context(**options), "token")
    return Stepper(machine)


def waiting(*ids: str, **more: Any) -> Stepper:
    stepper = stepping(Executions.wait_many(ids, **more))
    stepper.start()
    return stepper


def running(inputs: Any, **more: Any) -> Stepper:
    options = more.pop("options", {})
    stepper = stepping(Workflows.run_many("wf_1", inputs, **more), **options)
    stepper.start()
    return stepper


def numbered() -> Iterator[Dict[str, Any]]:
    return ({"n": n} for n in itertools.count())


def asked(stepper: Stepper) -> str:
    """What the request under way is about: the last part of its path but `execute`."""
    assert isinstance(stepper.action, Send), stepper.action
    return stepper.action.request.url.rpartition("/")[2]


def starts(stepper: Stepper, execution_id: str, **headers: str) -> Any:
    assert asked(stepper) == "execute"
    return stepper.replies(202, an_envelope({"execution_id": execution_id}), headers)


def says(stepper: Stepper, status: str, **headers: str) -> Any:
    return stepper.replies(200, an_envelope({"id": asked(stepper), "status": status}), headers)


def until_asked(stepper: Stepper) -> Stepper:
    while isinstance(stepper.action, Wait):
        stepper.waits()
    return stepper


def ids(stepper: Stepper) -> List[Any]:
    return [item.execution_id for item in stepper.items]


def errors(stepper: Stepper) -> List[Any]:
    return [item.error for item in stepper.items if item.error is not None]


# Waiting for what runs already


def test_all_are_asked_for_and_handed_over_as_they_end() -> None:
    wait = waiting("a", "b", "c")
    says(wait, "running")
    assert says(wait, "completed").item.execution_id == "b"
    assert isinstance(wait.takes(), Send)
    assert says(wait, "failed").item.execution_id == "c"
    wait.takes()
    assert asked(until_asked(wait)) == "a"
    says(wait, "cancelled")
    assert wait.takes() == Done(None)
    assert ids(wait) == ["b", "c", "a"]


def test_an_id_that_is_there_twice_is_followed_once() -> None:
    wait = waiting("a", "b", "a")
    while not isinstance(wait.action, Done):
        if isinstance(wait.action, Send):
            says(wait, "completed")
        wait.takes_all()
    assert ids(wait) == ["a", "b"]


def test_nothing_to_wait_for_is_an_end() -> None:
    assert stepping(Executions.wait_many([])).start() == Done(None)
    assert stepping(Workflows.run_many("wf_1", [])).start() == Done(None)


def test_thousands_go_round_in_turn() -> None:
    """Each is asked once before one is asked twice; no stack grows with their number."""
    names = [f"ex_{n}" for n in range(1200)]
    wait = waiting(*names)
    for name in names:
        assert asked(wait) == name
        says(wait, "running")
    assert asked(until_asked(wait)) == names[0]


def test_nobody_times_out_unasked() -> None:
    wait = waiting("a", "b", timeout=5.0)
    wait.replies(200, an_envelope({"id": "a", "status": "running"}), after=7.0)
    wait.takes()
    says(wait, "completed")
    assert wait.takes_all() == Done(None)
    assert [item.ok for item in wait.items] == [False, True]
    (error,) = errors(wait)
    assert isinstance(error, TimeoutError)
    assert error.execution_id == "a"
    assert error.last_execution["status"] == "running"


def test_the_last_question_comes_at_the_deadline() -> None:
    wait = waiting("a", timeout=5.0)
    while not isinstance(wait.action, Emit):
        until_asked(wait)
        says(wait, "running")
    assert wait.now == pytest.approx(1005.0)
    assert isinstance(wait.action.item.error, TimeoutError)


def test_one_error_never_ends_the_others() -> None:
    wait = waiting("a", "b")
    wait.replies(404)
    wait.takes()
    says(wait, "completed")
    assert wait.takes() == Done(None)
    missed, ended = wait.items
    assert isinstance(missed.error, NotFoundError)
    assert missed.error.execution_id == missed.execution_id == "a"
    assert (missed.ok, missed.outputs) == (False, None)
    with pytest.raises(NotFoundError):
        missed.result()
    assert (ended.execution_id, ended.ok) == ("b", True)
    assert ended.result() is ended.execution


def test_a_key_that_is_refused_is_told_with_each_execution() -> None:
    """Nothing is lost by that: every execution has its outcome, so nothing is raised."""
    wait = waiting("a", "b")
    wait.replies(401)
    wait.takes()
    wait.replies(401)
    assert wait.takes() == Done(None)
    assert [error.execution_id for error in errors(wait)] == ["a", "b"]


def test_trouble_that_may_pass_is_waited_out() -> None:
    wait = waiting("a")
    wait.fails(Phase.NOT_SENT)
    until_asked(wait)
    wait.replies(500)
    until_asked(wait)
    says(wait, "completed")
    assert wait.takes() == Done(None)


def test_a_pause_that_one_execution_asks_for_holds_back_no_other() -> None:
    wait = waiting("a", "b")
    wait.replies(503, headers={"Retry-After": "50"})
    assert asked(wait) == "b"


# The key's rate limit


def test_a_429_holds_everything_back() -> None:
    wait = waiting("a", "b")
    assert wait.replies(429, headers={"Retry-After": "70"}) == Wait(70.0)
    assert isinstance(wait.waits(), Send)
    assert asked(wait) == "b"


def test_a_429_that_does_not_fit_ends_all_that_it_does_not_fit_into() -> None:
    wait = waiting("a", "b", "c", timeout=60.0)
    says(wait, "completed")
    wait.takes()
    wait.replies(429, headers={"Retry-After": "61"})
    assert wait.takes_all() == Done(None)
    assert [error.execution_id for error in errors(wait)] == ["b", "c"]
    assert all(isinstance(error, RateLimitError) for error in errors(wait))
    assert all(error.retry_after == 61.0 for error in errors(wait))
    assert len(wait.sent) == 2


def test_those_that_have_the_time_wait_it_out() -> None:
    run = running([{}, {}], timeout=60.0)
    starts(run, "a")
    run.replies(202, an_envelope({"execution_id": "b"}), after=20.0)
    assert asked(run) == "a"
    assert isinstance(run.replies(429, headers={"Retry-After": "50"}).item.error, RateLimitError)
    assert run.takes() == Wait(50.0)
    run.waits()
    assert asked(run) == "b"
    says(run, "completed")
    assert run.takes() == Done(None)


def test_a_spent_day_ends_everything_at_once() -> None:
    wait = waiting("a", "b", "c")
    wait.replies(429, an_error("rate_limit_exceeded", window="day", retry_after=5))
    assert wait.takes_all() == Done(None)
    assert [error.execution_id for error in errors(wait)] == ["a", "b", "c"]
    assert len({id(error) for error in errors(wait)}) == 3
    assert len(wait.sent) == 1


def test_a_429_without_a_time_is_asked_again_in_its_turn() -> None:
    wait = waiting("a", "b")
    wait.replies(429)
    assert asked(wait) == "b"


def test_a_nearly_spent_window_is_spread_over_all_requests() -> None:
    wait = waiting("a", "b")
    assert says(wait, "running", **NEARLY_SPENT) == Wait(5.0)
    wait.waits()
    assert asked(wait) == "b"
    run = running([{}, {}])
    assert starts(run, "a", **NEARLY_SPENT) == Wait(5.0)
    run.waits()
    assert asked(run) == "execute"


def test_the_end_does_not_wait_for_the_rate_limit() -> None:
    run = running(iter([{}]))
    starts(run, "a")
    until_asked(run)
    says(run, "completed", **NEARLY_SPENT)
    assert run.takes() == Done(None)


def test_waking_too_early_is_no_reason_to_ask() -> None:
    wait = waiting("a")
    wait.replies(429, headers={"Retry-After": "9"})
    assert wait.waits(after=4.0) == Wait(5.0)


# Starting


def test_as_many_are_in_flight_as_are_allowed_and_no_input_is_read_before() -> None:
    read: List[int] = []

    def endless() -> Iterator[Dict[str, Any]]:
        for n in itertools.count():
            read.append(n)
            yield {"n": n}

    run = running(endless(), concurrency=2)
    assert read == [0]
    starts(run, "a")
    assert read == [0, 1]
    assert isinstance(starts(run, "b"), Wait)
    run.waits()
    assert asked(run) == "a"
    says(run, "completed")
    assert read == [0, 1]
    run.takes()
    assert read == [0, 1, 2]
    starts(run, "c")
    bodies = [json.loads(request.body) for request in run.sent if request.method == "POST"]
    assert bodies == [{"inputs": {"n": n}} for n in range(3)]


def test_each_start_has_a_key_of_its_own_on_every_attempt() -> None:
    run = running([{}, None], concurrency=2)
    run.fails(Phase.NOT_SENT)
    run.waits()
    starts(run, "a")
    starts(run, "b")
    keys = [request.headers["idempotency-key"] for request in run.sent]
    assert keys[0] == keys[1] != keys[2]
    assert run.sent[2].body == b'{"inputs":{}}'


def test_a_start_that_was_throttled_is_put_off_as_long_as_there_is_time() -> None:
    run = running([{}], timeout=200.0)
    assert run.replies(429, headers={"Retry-After": "90"}) == Wait(90.0)
    run.waits()
    assert run.replies(429, headers={"Retry-After": "90"}) == Wait(90.0)
    run.waits()
    run.replies(429, headers={"Retry-After": "90"})
    assert isinstance(run.error, RateLimitError)
    assert len({request.headers["idempotency-key"] for request in run.sent}) == 1


def test_a_throttled_start_without_a_time_is_put_off_too() -> None:
    run = running([{}], options={"max_retries": 0})
    assert run.replies(429) == Wait(PAUSE_AFTER_REFUSAL)
    run.waits()
    starts(run, "a")
    until_asked(run)
    says(run, "completed")
    assert run.takes() == Done(None)


@pytest.mark.parametrize("phase", [Phase.MAYBE_PROCESSED, Phase.REPLY_BROKEN])
def test_a_start_that_may_have_been_processed_is_not_repeated(phase: Phase) -> None:
    run = running([{}])
    run.fails(phase)
    assert run.takes() == Done(None)
    assert isinstance(errors(run)[0], ConnectionError)
    assert len(run.sent) == 1


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_what_makes_going_on_pointless_is_raised_when_the_others_have_arrived(status: int) -> None:
    run = running(numbered(), concurrency=3)
    starts(run, "a")
    assert isinstance(run.replies(status), Wait)
    run.waits()
    says(run, "completed")
    assert run.takes() == Fail(run.error)
    assert run.error.status_code == status
    assert run.error.execution_id is None
    assert (ids(run), len(run.sent)) == (["a"], 3)


def test_a_refused_key_takes_back_a_start_that_was_put_off() -> None:
    """A question is answered 401 while a start waits for its turn: that start never goes out."""
    run = running(numbered(), concurrency=2)
    starts(run, "a")
    run.replies(503, headers={"Retry-After": "20"})
    until_asked(run)
    run.replies(401)
    run.takes()
    assert isinstance(run.error, AuthenticationError)
    assert [request.method for request in run.sent] == ["POST", "POST", "GET"]


def test_a_lack_of_credits_stops_new_starts() -> None:
    """It is told by the execution, which failed; `api.md`."""
    run = running(numbered(), concurrency=2)
    starts(run, "a")
    starts(run, "b")
    until_asked(run)
    reason = "Insufficient credits for workflow execution. Estimated need: 5 credits"
    run.replies(200, an_envelope({"id": "a", "status": "failed", "error": reason}))
    outcome = run.action.item
    assert (outcome.ok, outcome.execution["status"]) == (False, "failed")
    assert isinstance(outcome.error, InsufficientCreditsError)
    assert outcome.error.execution_id == "a"
    run.takes()
    says(until_asked(run), "completed")
    run.takes()
    assert run.error is outcome.error
    assert ids(run) == ["a", "b"]


def test_a_lack_of_credits_ends_no_wait_for_others() -> None:
    wait = waiting("a", "b")
    wait.replies(200, an_envelope({"id": "a", "status": "failed", "error": "Insufficient credits"}))
    wait.takes()
    says(wait, "completed")
    assert wait.takes() == Done(None)


def test_every_row_has_an_outcome_that_knows_it() -> None:
    rows = [{"n": 0}, {"n": 1}, {"n": 2}]
    run = running(rows, concurrency=1)
    run.replies(422)
    run.takes()
    starts(run, "b")
    until_asked(run)
    run.replies(404)
    run.takes()
    run.fails(Phase.MAYBE_PROCESSED)
    assert run.takes() == Done(None)
    assert list(map(type, errors(run))) == [ValidationError, NotFoundError, ConnectionError]
    assert [(item.index, item.execution_id) for item in run.items] == [
        (0, None),
        (1, "b"),
        (2, None),
    ]
    assert all(item.inputs is rows[item.index] for item in run.items)


def test_starts_that_fail_make_the_next_one_wait_longer() -> None:
    """An outage costs a few rows their start, not all of them at once."""
    run = running([{}] * 10, options={"max_retries": 0})
    pauses = []
    while not isinstance(run.action, Done):
        run.fails(Phase.NOT_SENT)
        if isinstance(run.takes_all(), Wait):
            pauses += [run.action.seconds]
            run.waits()
    assert pauses[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0]
    assert len(errors(run)) == 10


def test_a_throttled_start_is_not_tried_sooner_than_a_backoff_would() -> None:
    """`retry-after-ms: 1` without retries once made 20,000 POSTs in 20 s."""
    run = running([{}], timeout=20.0, options={"max_retries": 0})
    while not isinstance(run.action, Fail):
        run.replies(429, headers={"retry-after-ms": "1"})
        until_asked(run)
    assert isinstance(run.error, RateLimitError)
    assert len(run.sent) <= 21


@pytest.mark.parametrize("data", [{}, {"execution_id": ""}, {"execution_id": 7}])
def test_a_start_without_a_usable_id_is_an_error(data: Any) -> None:
    run = running([{}])
    run.replies(202, an_envelope(data))
    assert run.takes() == Done(None)
    (error,) = errors(run)
    assert isinstance(error, ServerError)
    assert error.code == "invalid_response"


@pytest.mark.parametrize("bad", [{"a": {1}}, {"a": float("nan")}, {5: 1}, [1], "text", 0])
def test_a_bad_input_is_named_in_its_turn(bad: Any) -> None:
    run = running([{}, bad, {}], concurrency=1)
    starts(run, "a")
    until_asked(run)
    says(run, "completed")
    assert run.takes().item.index == 1
    (error,) = errors(run)
    assert isinstance(error, ValidationError)
    assert error.code == "invalid_input"
    assert error.status_code is None
    assert isinstance(error.__cause__, (TypeError, ValueError))
    assert "inputs[1] cannot be sent: inputs" in str(error)
    run.takes()
    starts(run, "c")
    says(until_asked(run), "completed")
    assert run.takes() == Done(None)
    assert [item.index for item in run.items] == [0, 1, 2]


def test_what_the_callers_iterator_raises_is_the_callers() -> None:
    def broken() -> Iterator[Dict[str, Any]]:
        yield {}
        raise TypeError("mine")

    run = running(broken())
    starts(run, "a")
    assert says(until_asked(run), "completed").item.execution_id == "a"
    with pytest.raises(TypeError, match="mine"):
        run.takes()


@pytest.mark.parametrize(
    "refusal", [{"headers": {"Retry-After": "30"}}, {"body": DAY_SPENT}], ids=["pause", "day"]
)
def test_a_key_that_is_refused_for_too_long_ends_new_starts(refusal: Dict[str, Any]) -> None:
    run = running([{}] * 3, timeout=10.0)
    run.replies(429, **refusal)
    assert isinstance(run.error, RateLimitError)
    assert run.error.retry_after in (30.0, 5)
    assert (run.items, len(run.sent)) == ([], 1)


@pytest.mark.parametrize(("seconds", "fits"), [("100", True), ("400", False), ("9" * 10, False)])
def test_a_pause_is_too_long_only_where_there_is_no_time_for_it(seconds: str, fits: bool) -> None:
    run = running([{}, {}], timeout=300.0)
    run.replies(429, headers={"Retry-After": seconds})
    if fits:
        assert run.action == Wait(100.0)
    else:
        assert run.error.gave_up == "the server asks to wait longer than there is time for"


def test_what_runs_is_asked_for_while_the_key_is_refused_for_too_long() -> None:
    run = running([{}, {}], timeout=30.0)
    starts(run, "a")
    run.replies(429, headers={"Retry-After": "3600"})
    says(until_asked(run), "completed")
    assert run.now < 1002.0
    run.takes()
    assert isinstance(run.error, RateLimitError)


def test_a_spent_window_puts_off_no_last_question() -> None:
    wait = waiting("a", "b", timeout=30.0)
    spent = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "Date": EPOCH}
    says(wait, "running", **spent, **{"X-RateLimit-Reset": str(784111777 + 7200)})
    while not isinstance(wait.action, Done):
        if isinstance(wait.action, Send):
            says(wait, "running", **spent, **{"X-RateLimit-Reset": str(784111777 + 7200)})
        else:
            wait.takes() if isinstance(wait.action, Emit) else wait.waits()
    assert wait.now == pytest.approx(1030.0)
    assert [type(error) for error in errors(wait)] == [TimeoutError, TimeoutError]


def test_a_start_whose_turn_passes_in_a_spent_window_is_not_made() -> None:
    run = running([{}, {}], timeout=30.0, concurrency=1)
    spent = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "Date": EPOCH}
    starts(run, "a", **spent, **{"X-RateLimit-Reset": str(784111777 + 7200)})
    assert run.waits().request.method == "GET"
    says(run, "completed")
    run.takes()
    assert run.action == Wait(pytest.approx(30.0))
    run.waits()
    (error,) = errors(run)
    assert isinstance(error, TimeoutError)
    assert run.takes() == Done(None)


def test_a_refused_key_starts_again_after_the_pause() -> None:
    run = running([{}, {}], timeout=10.0, concurrency=1)
    starts(run, "a")
    assert says(until_asked(run), "completed").item.execution_id == "a"
    run.takes()
    run.replies(429, headers={"Retry-After": "9"})
    starts(until_asked(run), "b")
    assert says(until_asked(run), "completed").item.execution_id == "b"
    assert run.takes() == Done(None)


# Progress, and arguments


def test_progress_tells_how_far_the_batch_has_come() -> None:
    told: List[BatchProgress] = []
    run = running([{}, {"a": {1}}, {}], concurrency=1, progress=told.append)
    while not isinstance(run.action, Done):
        if isinstance(run.action, Emit):
            callback, progress = run.machine.heard(run.action.item)
            callback(progress)
            run.takes(after=1.0)
        elif asked(until_asked(run)) == "execute":
            starts(run, f"ex_{len(run.sent)}")
        else:
            says(run, "completed")
    assert [(it.done, it.failed, it.in_flight, it.total) for it in told] == [
        (1, 0, 0, 3),
        (2, 1, 0, 3),
        (3, 1, 0, 3),
    ]
    assert told[-1].seconds_left == 0.0
    assert told[0].seconds_left > 0.0


def test_the_rate_limit_is_part_of_the_estimate() -> None:
    """Two requests a row, sixty a minute."""
    told: List[BatchProgress] = []
    run = running([{}] * 121, concurrency=1, progress=told.append)
    limit = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "40", "Date": EPOCH}
    limit["X-RateLimit-Reset"] = str(784111777 + 30)
    starts(run, "a", **limit)
    says(until_asked(run), "completed", **limit)
    estimate = run.machine.heard(run.action.item)[1].seconds_left
    assert estimate == pytest.approx(30.0 + ((240 - 40) / 60 - 1) * 60)


def test_how_many_there_are_is_known_where_the_rows_have_a_length() -> None:
    assert Executions.wait_many(iter("aba")).total == 2
    assert Workflows.run_many("w", [{}, {}]).total == 2
    assert Workflows.run_many("w", iter([{}, {}])).total is None


def test_a_start_is_told_as_soon_as_it_has_an_id() -> None:
    told: List[RunOutcome] = []
    run = running([{"n": 1}], on_start=told.append)
    started = starts(run, "a").item
    assert isinstance(started, RunStarted)
    assert run.machine.heard(started) == (told.append, RunOutcome(0, {"n": 1}, "a"))
    assert run.machine.in_flight == (started.outcome,)
    run.takes()
    says(until_asked(run), "completed")
    assert run.machine.heard(run.action.item) is None
    assert run.takes() == Done(None)


def test_ordered_outcomes_come_in_the_order_of_the_rows() -> None:
    run = running(numbered(), concurrency=2, ordered=True)
    first = starts(run, "ex_0")
    assert isinstance(first, Send)
    for _ in range(200):
        if isinstance(run.action, Wait):
            run.waits()
        elif asked(run) == "execute":
            starts(run, f"ex_{len(run.sent)}")
        else:
            says(run, "running" if asked(run) == "ex_0" else "completed")
    assert run.items == []
    assert sum(request.method == "POST" for request in run.sent) == 8
    kept = {item.index for item in run.machine.in_flight}
    assert kept == set(range(8))
    while asked(until_asked(run)) != "ex_0":
        says(run, "running")
    says(run, "completed")
    while isinstance(run.action, Emit):
        run.takes()
    assert [item.index for item in run.items] == list(range(8))


def test_an_ordered_batch_that_is_stopped_hands_over_what_it_has() -> None:
    run = running(numbered(), concurrency=3, ordered=True)
    run.replies(503, headers={"Retry-After": "20"})
    until_asked(run)
    starts(run, "a")
    starts(run, "b")
    run.replies(401)
    while not isinstance(run.takes_all(), Fail):
        says(until_asked(run), "completed")
    assert [item.index for item in run.items] == [0, 1]
    assert isinstance(run.error, AuthenticationError)


def test_without_callbacks_nobody_listens() -> None:
    assert Executions.wait_many(["a"]).listener is None
    assert Workflows.run_many("w", [{}]).listener is None


@pytest.mark.parametrize(
    ("inputs", "read_on"),
    [([{}], False), (({},), False), (iter([{}]), True), ({1: {}}.values(), True)],
)
def test_whose_code_runs_in_its_steps(inputs: Any, read_on: bool) -> None:
    machine = Workflows.run_many("w", inputs).machine(a_context(), "token")
    assert machine.runs_callers_code is read_on


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["timeout", "poll_interval"])
def test_times_are_positive_and_finite(name: str, bad: float) -> None:
    arguments: Any = {name: bad}
    for build in (
        lambda: Executions.wait_many([], **arguments),
        lambda: Workflows.run_many("w", [], **arguments),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            build()


def test_concurrency_is_a_number_from_one() -> None:
    for bad in (0, -1):
        with pytest.raises(ValueError, match=r"^concurrency must be at least 1"):
            Workflows.run_many("w", [], concurrency=bad)
    wrong: Any
    for wrong in (True, 2.0, "8", None):
        with pytest.raises(TypeError, match=r"^concurrency must be an int"):
            Workflows.run_many("w", [], concurrency=wrong)


@pytest.mark.parametrize("wrong", ["ex_1", b"ex_1", {"a": 1}, 5, None])
def test_one_thing_is_not_many(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^execution_ids must be a list or another iterable of ids, not"
    ):
        Executions.wait_many(wrong)
    with pytest.raises(
        TypeError, match=r"^inputs must be a list or another iterable of dicts, not"
    ):
        Workflows.run_many("w", wrong)


@pytest.mark.parametrize("bad", ["", "..", 5, None, []])
def test_a_bad_id_among_many_is_refused_at_once(bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="execution_id"):
        Executions.wait_many(["a", bad])


# All of it

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


def test_the_table_is_true() -> None:
    world: Any = Possibilities((*REPLIES, STARTED, STARTED, STARTED))
    wanders = [
        wander(make, world, walks=walks)
        for walks, make in (
            (30, lambda: stepping(Executions.wait_many(["a", "b"], timeout=20.0))),
            (30, lambda: stepping(Executions.wait_many([], timeout=20.0))),
            (30, lambda: stepping(Workflows.run_many("w", mixed(), concurrency=2, timeout=20.0))),
            (120, lambda: stepping(Workflows.run_many("w", mixed()[1:], on_start=print))),
            (30, lambda: stepping(Workflows.run_many("w", mixed()[2:], timeout=20.0))),
        )
    ]
    few = Journaled((STARTED, *REPLIES[:2]))
    rare = Journaled((*REPLIES, *[STARTED] * 3, *[LAST_PAGE] * 3))
    doubted = partial(rare.journaling, rows=[{}], on_unknown="start", settle_after=0.2)
    journaled: List[Any] = [
        (partial(few.journaling, rows=mixed(), settle_after=1.0), few, 400),
        (doubted, rare, 400),
    ]
    for page, more in itertools.product(
        (PAGE, LAST_PAGE),
        (
            {"rows": mixed(), "settle_after": 1.0},
            {"rows": [{}], "settle_after": 30.0},
            {"rows": [{}], "on_unknown": "start", "settle_after": 0.2},
            {"rows": []},
            {"rows": [{"a": {1}}] * 16 + [{}]},
        ),
    ):
        world = Journaled((*REPLIES, *[STARTED] * 3, *[page] * 3))
        journaled.append((partial(world.journaling, **more), world, 30))
    for machine in (BatchMachine, LookUpMachine):
        walks = [wander(make, world, walks=walks, steps=60) for make, world, walks in journaled]
        assert_table_is_true(machine, *walks, *(wanders if machine is BatchMachine else ()))


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
            pointless = (*POINTLESS, RateLimitError)
            assert isinstance(self.stepper.error, pointless)


TestBatchProperties = collected(BatchProperties)
