"""Following many executions: what is started when, what is asked, and that nothing is lost."""

from __future__ import annotations

import itertools
import json
from collections import UserDict
from typing import Any, Dict, Iterator, List

import pytest

from flowmaestro_core.actions import Done, Emit, Fail, Send, Wait
from flowmaestro_core.errors import (
    AuthenticationError,
    ConnectionError,
    InsufficientCreditsError,
    NotFoundError,
    ServerError,
    TimeoutError,
    ValidationError,
)
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.resources.executions import Executions
from flowmaestro_core.resources.workflows import Workflows
from tests.harness.core.batch_steps import (
    asked,
    errors,
    ids,
    numbered,
    running,
    says,
    starts,
    stepping,
    until_asked,
    waiting,
)
from tests.harness.core.stepping import an_envelope, an_error

# For observers


def test_starting_row_is_known_only_during_its_start() -> None:
    run = running([{"n": 1}, {"n": 2}], concurrency=1)
    machine: Any = run.machine
    assert (asked(until_asked(run)), machine.starting_row) == ("execute", 0)
    starts(run, "a")
    assert (asked(until_asked(run)), machine.starting_row) == ("a", None)
    says(run, "completed")
    run.takes()
    assert (asked(until_asked(run)), machine.starting_row) == ("execute", 1)


# Waiting for what runs already


def test_each_execution_is_polled_and_delivered_as_it_ends() -> None:
    wait = waiting("a", "b", "c")
    says(wait, "running")
    assert says(wait, "completed").items[0].execution_id == "b"
    assert isinstance(wait.takes(), Send)
    assert says(wait, "failed").items[0].execution_id == "c"
    wait.takes()
    assert asked(until_asked(wait)) == "a"
    says(wait, "cancelled")
    assert wait.takes() == Done(None)
    assert ids(wait) == ["b", "c", "a"]


def test_repeated_id_is_followed_once() -> None:
    wait = waiting("a", "b", "a")
    while not isinstance(wait.action, Done):
        if isinstance(wait.action, Send):
            says(wait, "completed")
        wait.takes_all()
    assert ids(wait) == ["a", "b"]


def test_wait_for_no_execution_ends_at_once() -> None:
    assert stepping(Executions.wait_many([])).start() == Done(None)
    assert stepping(Workflows.run_many("wf_1", [])).start() == Done(None)


def test_each_execution_is_polled_before_it_times_out() -> None:
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


def test_last_poll_comes_at_the_deadline() -> None:
    wait = waiting("a", timeout=5.0)
    while not isinstance(wait.action, Emit):
        until_asked(wait)
        says(wait, "running")
    assert wait.now == pytest.approx(1005.0)
    assert isinstance(wait.action.items[0].error, TimeoutError)


def test_an_error_of_one_row_never_ends_the_others() -> None:
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


def test_refused_key_is_the_error_of_each_execution() -> None:
    """Nothing is lost by that: every execution has its outcome, so nothing is raised."""
    wait = waiting("a", "b")
    wait.replies(401)
    wait.takes()
    wait.replies(401)
    assert wait.takes() == Done(None)
    assert [error.execution_id for error in errors(wait)] == ["a", "b"]


def test_retry_after_of_one_execution_delays_no_other() -> None:
    wait = waiting("a", "b")
    wait.replies(503, headers={"Retry-After": "50"})
    assert asked(wait) == "b"


# Starting


def test_concurrency_limits_starts_and_reading() -> None:
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


def test_each_start_keeps_its_own_idempotency_key() -> None:
    run = running([{}, None], concurrency=2)
    run.fails(Phase.NOT_SENT)
    run.waits()
    starts(run, "a")
    starts(run, "b")
    keys = [request.headers["idempotency-key"] for request in run.sent]
    assert keys[0] == keys[1] != keys[2]
    assert run.sent[2].body == b'{"inputs":{}}'


INVALID = "Workflow validation failed"


def test_invalid_workflow_stops_new_starts() -> None:
    run = running([{}] * 200, concurrency=4)
    starts(run, "a")
    run.replies(400, an_error("validation_error", f"{INVALID}: node http1 has no input"))
    until_asked(run)
    says(run, "completed")
    assert run.takes_all().error.message.startswith(INVALID)  # type: ignore[union-attr]
    assert [item.execution_id for item in run.items] == ["a"]
    assert len(run.sent) == 3


@pytest.mark.parametrize(
    "error",
    [
        an_error("validation_error", f"name: {INVALID}"),
        an_error("validation_error", "inputs must be an object"),
        an_error("invalid_inputs", INVALID),
    ],
)
def test_any_other_400_is_the_error_of_its_row(error: Any) -> None:
    run = running([{}] * 3)
    for _ in range(3):
        run.replies(400, error)
        run.takes()
    assert run.action == Done(None)
    assert [type(item) for item in errors(run)] == [ValidationError] * 3


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_fatal_error_is_raised_after_executions_in_flight_end(status: int) -> None:
    run = running(numbered(), concurrency=3)
    starts(run, "a")
    assert isinstance(run.replies(status), Wait)
    run.waits()
    says(run, "completed")
    assert run.takes() == Fail(run.error)
    assert run.error.status_code == status
    assert run.error.execution_id is None
    assert (ids(run), len(run.sent)) == (["a"], 3)


@pytest.mark.parametrize("phase", [Phase.NOT_SENT, Phase.MAYBE_PROCESSED])
def test_permanent_failure_of_the_network_stops_new_starts(phase: Phase) -> None:
    """Such as a 407. If the start may have been processed, it is the error of its row."""
    run = running([{}] * 3)
    run.fails(phase, permanent=True)
    if phase is Phase.NOT_SENT:
        assert run.action == Fail(run.error)
        assert isinstance(run.error, ConnectionError)
        assert len(run.sent) == 1
    else:
        run.takes()
        assert isinstance(errors(run)[0], ConnectionError)
        assert not isinstance(run.action, Fail)


def test_refused_key_cancels_a_parked_start() -> None:
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
    """It is told by the execution, which failed; `docs/api-facts.md`."""
    run = running(numbered(), concurrency=2)
    starts(run, "a")
    starts(run, "b")
    until_asked(run)
    reason = "Insufficient credits for workflow execution. Estimated need: 5 credits"
    run.replies(200, an_envelope({"id": "a", "status": "failed", "error": reason}))
    outcome = run.action.items[0]
    assert (outcome.ok, outcome.execution["status"]) == (False, "failed")
    assert isinstance(outcome.error, InsufficientCreditsError)
    assert outcome.error.execution_id == "a"
    run.takes()
    says(until_asked(run), "completed")
    run.takes()
    assert run.error is outcome.error
    assert ids(run) == ["a", "b"]


def test_every_outcome_has_its_row() -> None:
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


def test_consecutive_failed_starts_back_off() -> None:
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


def test_start_that_must_wait_beyond_its_deadline_is_not_sent() -> None:
    """The back-off of the third is 1 s, after two failures."""
    batch = running([{}] * 3, timeout=0.75)
    while not isinstance(batch.action, Done):
        batch.replies(500) if isinstance(batch.action, Send) else batch.idles()
    assert [type(error) for error in errors(batch)] == [ServerError, ServerError, TimeoutError]
    assert batch.waited_for == [0.5, 0.75]


@pytest.mark.parametrize("reply", [(409, {}), (302, {}), (405, {}), (202, {"data": {}})])
def test_useless_response_delays_the_next_start(reply: Any) -> None:
    run = running([{}] * 3, options={"max_retries": 0})
    run.replies(*reply, headers={"retry-after-ms": "1"})
    assert run.takes_all() == Wait(0.5)


@pytest.mark.parametrize("bad", [{"a": {1}}, {"a": float("nan")}, {5: 1}, [1], "text", 0])
def test_row_that_cannot_be_sent_is_named_in_its_turn(bad: Any) -> None:
    run = running([{}, bad, {}], concurrency=1)
    starts(run, "a")
    until_asked(run)
    says(run, "completed")
    assert run.takes().items[0].index == 1
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


def test_a_mapping_that_raises_is_an_error_of_its_row() -> None:
    class Broken(UserDict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise LookupError("mine")

    run = running([Broken(a=1), {}], concurrency=1)
    assert isinstance(errors(run)[0], ValidationError)
    assert "inputs[0] cannot be sent: LookupError('mine')" in str(errors(run)[0])
    assert isinstance(errors(run)[0].__cause__, LookupError)
    run.takes()
    starts(run, "b")


def test_exception_of_the_iterator_is_raised_unchanged() -> None:
    def broken() -> Iterator[Dict[str, Any]]:
        yield {}
        raise TypeError("mine")

    run = running(broken())
    starts(run, "a")
    assert says(until_asked(run), "completed").items[0].execution_id == "a"
    run.foreign = (TypeError,)
    run.takes()
    assert isinstance(run.error, TypeError)
