"""Following many executions: what is started when, what is asked, and that nothing is lost."""

from __future__ import annotations

import itertools
import json
from typing import Any, Dict, Iterator, List, Optional, Set

import pytest
from hypothesis import strategies as st
from properties import MachineProperties, collected, json_values, responses
from stepping import (
    Possibilities,
    Report,
    Stepper,
    Transition,
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
    FlowMaestroError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TimeoutError,
    ValidationError,
)
from flowmaestro_core.executions.batch import PAUSE_AFTER_REFUSAL, Batch, BatchMachine
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
    return [item["id"] for item in stepper.items]


# Waiting for what runs already


def test_all_are_asked_for_and_handed_over_as_they_end() -> None:
    wait = waiting("a", "b", "c")
    says(wait, "running")
    assert says(wait, "completed").item["id"] == "b"
    assert isinstance(wait.takes(), Send)
    assert says(wait, "failed").item["id"] == "c"
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
    names = [f"ex_{n}" for n in range(3000)]
    wait = waiting(*names)
    for name in names:
        assert asked(wait) == name
        says(wait, "running")
    assert asked(until_asked(wait)) == names[0]


def test_nobody_times_out_unasked() -> None:
    wait = waiting("a", "b", timeout=5.0)
    wait.replies(200, an_envelope({"id": "a", "status": "running"}), after=7.0)
    says(wait, "completed")
    assert ids(wait) == ["b"]
    wait.takes()
    assert isinstance(wait.error, TimeoutError)
    assert wait.error.execution_id == "a"
    assert wait.error.last_execution["status"] == "running"


def test_the_last_question_comes_at_the_deadline() -> None:
    wait = waiting("a", timeout=5.0)
    while not isinstance(wait.action, Fail):
        until_asked(wait)
        says(wait, "running")
    assert wait.now == pytest.approx(1005.0)


def test_the_others_are_handed_over_before_an_error_is_raised() -> None:
    wait = waiting("a", "b", "c")
    wait.replies(404)
    wait.replies(404)
    says(wait, "completed")
    assert isinstance(wait.takes(), Fail)
    assert isinstance(wait.error, NotFoundError)
    assert wait.error.execution_id == "a"


def test_errors_can_be_items() -> None:
    wait = waiting("a", "b", return_exceptions=True)
    wait.replies(404)
    wait.takes()
    says(wait, "completed")
    assert wait.takes() == Done(None)
    error, execution = wait.items
    assert isinstance(error, NotFoundError)
    assert error.execution_id == "a"
    assert execution["id"] == "b"


def test_trouble_that_may_pass_is_waited_out() -> None:
    wait = waiting("a")
    wait.fails(Phase.NOT_SENT)
    until_asked(wait)
    wait.replies(500)
    until_asked(wait)
    says(wait, "completed")
    assert wait.takes() == Done(None)


# The key's rate limit


def test_a_429_holds_everything_back() -> None:
    wait = waiting("a", "b")
    assert wait.replies(429, headers={"Retry-After": "70"}) == Wait(70.0)
    assert isinstance(wait.waits(), Send)
    assert asked(wait) == "b"


def test_a_429_that_does_not_fit_ends_all_that_it_does_not_fit_into() -> None:
    wait = waiting("a", "b", "c", timeout=60.0, return_exceptions=True)
    says(wait, "completed")
    wait.takes()
    wait.replies(429, headers={"Retry-After": "61"})
    assert wait.takes_all() == Done(None)
    _, *errors = wait.items
    assert [error.execution_id for error in errors] == ["b", "c"]
    assert all(isinstance(error, RateLimitError) for error in errors)
    assert all(error.retry_after == 61.0 for error in errors)
    assert len(wait.sent) == 2


def test_those_that_have_the_time_wait_it_out() -> None:
    run = running([{}, {}], timeout=60.0, return_exceptions=True)
    starts(run, "a")
    run.replies(202, an_envelope({"execution_id": "b"}), after=20.0)
    assert asked(run) == "a"
    assert isinstance(run.replies(429, headers={"Retry-After": "50"}).item, RateLimitError)
    assert run.takes() == Wait(50.0)
    run.waits()
    assert asked(run) == "b"
    says(run, "completed")
    assert run.takes() == Done(None)


def test_a_spent_day_ends_everything_at_once() -> None:
    wait = waiting("a", "b", "c", return_exceptions=True)
    wait.replies(429, an_error("rate_limit_exceeded", window="day", retry_after=5))
    assert wait.takes_all() == Done(None)
    assert [error.execution_id for error in wait.items] == ["a", "b", "c"]
    assert len({id(error) for error in wait.items}) == 3
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
    run = running(numbered())
    run.fails(phase)
    assert isinstance(run.error, ConnectionError)
    assert len(run.sent) == 1


def test_after_an_error_no_more_are_started_and_the_others_are_followed() -> None:
    run = running(numbered(), concurrency=3)
    starts(run, "a")
    assert isinstance(run.replies(422), Wait)
    run.waits()
    says(run, "completed")
    run.takes()
    assert isinstance(run.error, ValidationError)
    assert run.error.execution_id is None
    assert len(run.sent) == 3


def test_an_error_takes_back_a_start_that_was_put_off() -> None:
    """A question is answered 401 while a start waits for its turn: that start never goes out."""
    run = running(numbered(), concurrency=2)
    starts(run, "a")
    run.replies(500)
    until_asked(run)
    run.replies(401)
    assert isinstance(run.error, ServerError)
    assert [request.method for request in run.sent] == ["POST", "POST", "GET"]


def test_all_inputs_are_gone_through_when_errors_are_items() -> None:
    run = running([{}, {}, {}], concurrency=1, return_exceptions=True)
    run.replies(422)
    run.takes()
    starts(run, "b")
    until_asked(run)
    run.replies(401)
    run.takes()
    run.fails(Phase.MAYBE_PROCESSED)
    assert run.takes() == Done(None)
    kinds = [type(error) for error in run.items]
    assert kinds == [ValidationError, AuthenticationError, ConnectionError]
    assert [error.execution_id for error in run.items] == [None, "b", None]


@pytest.mark.parametrize("data", [{}, {"execution_id": ""}, {"execution_id": 7}])
def test_a_start_without_a_usable_id_is_an_error(data: Any) -> None:
    run = running([{}])
    run.replies(202, an_envelope(data))
    assert isinstance(run.error, ServerError)
    assert run.error.code == "invalid_response"


@pytest.mark.parametrize("bad", [{"a": {1}}, {"a": float("nan")}, {5: 1}, [1], "text", 0])
def test_a_bad_input_is_named_in_its_turn(bad: Any) -> None:
    run = running([{}, bad, {}], concurrency=1)
    starts(run, "a")
    until_asked(run)
    says(run, "completed")
    run.takes()
    assert isinstance(run.error, ValidationError)
    assert run.error.code == "invalid_input"
    assert run.error.status_code is None
    assert isinstance(run.error.__cause__, (TypeError, ValueError))
    assert "inputs[1] cannot be sent: inputs" in str(run.error)
    assert len(run.sent) == 2


def test_a_bad_input_can_be_an_item() -> None:
    run = running([{"a": {1}}, {}], return_exceptions=True)
    assert isinstance(run.action, Emit)
    run.takes()
    starts(run, "b")
    until_asked(run)
    says(run, "completed")
    assert run.takes() == Done(None)


def test_what_the_callers_iterator_raises_is_the_callers() -> None:
    def broken() -> Iterator[Dict[str, Any]]:
        yield {}
        raise TypeError("mine")

    run = running(broken())
    starts(run, "a")
    assert says(until_asked(run), "completed").item["id"] == "a"
    with pytest.raises(TypeError, match="mine"):
        run.takes()


@pytest.mark.parametrize(
    "refusal", [{"headers": {"Retry-After": "30"}}, {"body": DAY_SPENT}], ids=["pause", "day"]
)
def test_a_key_that_is_refused_for_too_long_is_not_asked_again(refusal: Dict[str, Any]) -> None:
    run = running([{}] * 3, timeout=10.0, return_exceptions=True)
    run.replies(429, **refusal)
    assert isinstance(run.takes_all(), Done)
    assert [type(item) for item in run.items] == [RateLimitError] * 3
    assert len({id(item) for item in run.items}) == 3
    assert len(run.sent) == 1


@pytest.mark.parametrize(("seconds", "fits"), [("100", True), ("400", False)])
def test_a_pause_is_too_long_only_where_there_is_no_time_for_it(seconds: str, fits: bool) -> None:
    run = running([{}, {}], timeout=300.0, return_exceptions=True)
    run.replies(429, headers={"Retry-After": seconds})
    if fits:
        assert run.action == Wait(100.0)
        return
    run.takes_all()
    reason = "the server asks to wait longer than there is time for"
    assert [error.gave_up for error in run.items] == [reason, reason]


def test_a_refused_key_starts_again_after_the_pause() -> None:
    run = running([{}, {}], timeout=10.0, concurrency=1, return_exceptions=True)
    starts(run, "a")
    assert says(until_asked(run), "completed").item["id"] == "a"
    run.takes()
    run.replies(429, headers={"Retry-After": "9"})
    starts(until_asked(run), "b")
    assert says(until_asked(run), "completed").item["id"] == "b"
    assert run.takes() == Done(None)


# Progress, and arguments


@pytest.mark.parametrize(
    ("many", "total"),
    [
        (lambda progress: Executions.wait_many(iter("aba"), progress=progress), 2),
        (lambda progress: Workflows.run_many("w", [{}, {}], progress=progress), 2),
        (lambda progress: Workflows.run_many("w", iter([{}, {}]), progress=progress), None),
    ],
)
def test_progress_is_told_how_many_of_how_many(many: Any, total: Optional[int]) -> None:
    told: List[Any] = []
    listener = many(lambda *counts: told.append(counts) or "awaitable").listener
    assert listener({}) == "awaitable"
    listener(NotFoundError())
    assert told == [(1, total), (2, total)]


def test_without_progress_nobody_listens() -> None:
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


def mixed() -> List[Any]:
    return [{}, {"a": {1}}, {}, {}, {}]


def test_the_table_is_true() -> None:
    world = Possibilities((*REPLIES, STARTED, STARTED, STARTED))
    taken: Set[Transition] = set()
    for make in (
        lambda: stepping(Executions.wait_many(["a", "b"], timeout=20.0)),
        lambda: stepping(Executions.wait_many([], timeout=20.0)),
        lambda: stepping(Workflows.run_many("w", mixed(), concurrency=2, timeout=20.0)),
        lambda: stepping(
            Workflows.run_many("w", mixed(), concurrency=2, timeout=20.0, return_exceptions=True)
        ),
        lambda: stepping(Workflows.run_many("w", mixed()[1:], return_exceptions=True)),
        lambda: stepping(Workflows.run_many("w", mixed()[1:])),
        lambda: stepping(Workflows.run_many("w", mixed()[2:], timeout=20.0)),
    ):
        taken |= wander(make, world, walks=300)
    assert_table_is_true(BatchMachine, taken)


class ManyProperties(MachineProperties):
    """No start goes out again once it may have worked; inputs are read only as there is room."""

    return_exceptions = True
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
            Workflows.run_many(
                "w",
                self.inputs(),
                concurrency=self.concurrency,
                timeout=30.0,
                return_exceptions=self.return_exceptions,
            )
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
        missed = 0 if self.return_exceptions else 1
        assert self.read <= len(self.stepper.items) + self.concurrency + missed
        assert not (self.return_exceptions and isinstance(self.stepper.action, Fail))
        if not self.return_exceptions:
            assert not any(isinstance(item, FlowMaestroError) for item in self.stepper.items)


class RaisingManyProperties(ManyProperties):
    return_exceptions = False


TestManyProperties = collected(ManyProperties)
TestRaisingManyProperties = collected(RaisingManyProperties)
