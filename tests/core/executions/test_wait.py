"""Waiting for an execution by polling: how often, for how long, through what trouble."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import strategies as st

from flowmaestro_core.actions import Done, Emit, Fail, Send, Wait
from flowmaestro_core.errors import (
    AuthenticationError,
    ConnectionError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from flowmaestro_core.executions.operation import Poll
from flowmaestro_core.executions.wait import LAST_POLL_TIMEOUT, PollState, WaitMachine
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machines import machine_for
from flowmaestro_core.payloads.shapes import is_terminal
from flowmaestro_core.resources.executions import Executions
from tests.harness.core.properties import MachineProperties, collected, json_values, responses
from tests.harness.core.stepping import (
    Possibilities,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    wander,
)

RUNNING = an_envelope({"id": "ex_1", "status": "running"})
COMPLETED = an_envelope({"id": "ex_1", "status": "completed", "outputs": {"a": 1}})


def waiting(
    *,
    poll_interval: float = 1.0,
    timeout: float = 300.0,
    on_poll: Optional[Any] = None,
    max_reply_size: int = 10_000,
) -> Stepper:
    wait = Executions.wait_for_completion(
        "ex_1", poll_interval=poll_interval, timeout=timeout, on_poll=on_poll
    )
    assert isinstance(wait, Poll)
    context = replace(a_context(), max_reply_size=max_reply_size)
    return Stepper(machine_for(wait, context, "token"))


def started(**more: Any) -> Stepper:
    stepper = waiting(**more)
    stepper.start()
    return stepper


def elapsed(stepper: Stepper) -> float:
    return stepper.now - 1000.0


# The plain course


def test_an_execution_that_has_ended_is_given_back_at_once() -> None:
    wait = waiting()
    action = wait.start()
    assert isinstance(action, Send)
    assert action.request.method == "GET"
    assert action.request.url.endswith("/api/v1/executions/ex_1")
    wait.replies(200, COMPLETED)
    ended = {"id": "ex_1", "status": "completed", "outputs": {"a": 1}, "error": None}
    assert wait.value.items() >= ended.items()


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_every_end_is_an_end(status: str) -> None:
    wait = started()
    wait.replies(200, an_envelope({"status": status}))
    assert wait.value["status"] == status


@pytest.mark.parametrize("status", ["pending", "running", "paused", "unheard-of", None, 1, [], {}])
def test_any_other_status_is_not_terminal(status: Any) -> None:
    wait = started()
    assert isinstance(wait.replies(200, an_envelope({"status": status})), Wait)
    assert not is_terminal({"status": status})


@pytest.mark.parametrize("nonsense", [None, [], "completed", 1])
def test_malformed_execution_has_not_ended(nonsense: Any) -> None:
    assert not is_terminal(nonsense)


@pytest.mark.parametrize("seconds", [0.05, 0.5, 30.0])
def test_given_poll_interval_holds_from_the_first_poll_on(seconds: float) -> None:
    wait = started(poll_interval=seconds)
    for _ in range(9):
        wait.replies(200, RUNNING)
        wait.waits()
    assert set(wait.waited_for) == {seconds}


def test_a_nearly_spent_window_is_spread_over_its_rest() -> None:
    wait = started()
    spent = {
        "X-RateLimit-Limit": "60",
        "X-RateLimit-Remaining": "4",
        "X-RateLimit-Reset": "784111797",
        "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
    }
    assert wait.replies(200, RUNNING, spent) == Wait(4.0)
    wait.waits()
    refused = wait.replies(503)  # which tells nothing new
    assert refused == Wait(4.0)
    assert isinstance(refused, Wait)
    assert refused.because is not None


# The end of the time


def test_the_wait_ends_at_its_deadline_with_what_was_seen_last() -> None:
    wait = started(timeout=3.0)
    while not isinstance(wait.replies(200, RUNNING), Fail):
        wait.waits()
    assert elapsed(wait) == pytest.approx(3.0)
    assert isinstance(wait.error, TimeoutError)
    assert wait.error.last_execution["status"] == "running"
    assert wait.error.execution_id == "ex_1"
    assert wait.error.message == (
        "Execution ex_1 did not complete within 3s; it is running: "
        "wait for it again, or cancel it if it never ends"
    )


def test_the_error_says_that_the_execution_is_paused() -> None:
    wait = started(timeout=3.0)
    while not isinstance(wait.replies(200, an_envelope({"status": "paused"})), Fail):
        wait.waits()
    assert wait.error.message == (
        "Execution ex_1 did not complete within 3s; it is paused: it waits for a person"
    )


def test_the_last_question_is_asked_at_the_deadline() -> None:
    wait = started(timeout=3.0)
    while elapsed(wait) < 3.0:
        wait.replies(200, RUNNING)
        action = wait.waits()
    assert isinstance(action, Send)
    assert action.timeout == LAST_POLL_TIMEOUT
    wait.replies(200, COMPLETED, after=0.9)
    assert wait.value["status"] == "completed"


def test_a_question_takes_no_longer_than_what_is_left() -> None:
    wait = waiting(timeout=10.0)
    action = wait.start()
    assert isinstance(action, Send)
    assert action.timeout == 10.0


def test_a_wait_without_an_answer_tells_the_cause() -> None:
    wait = started(timeout=1.0)
    while not isinstance(wait.fails(), Fail):
        wait.waits()
    assert isinstance(wait.error, TimeoutError)
    assert wait.error.last_execution is None
    cause: Any = wait.error.__cause__
    assert cause.__cause__.phase is Phase.MAYBE_PROCESSED


def test_a_wait_may_have_begun_before() -> None:
    poll = Executions.wait_for_completion("ex_1")
    wait = Stepper(WaitMachine(poll, a_context(), "token", PollState(poll, 800.0)))
    wait.start()
    assert wait.replies(200, RUNNING) == Wait(1.0)
    wait.waits(after=100.0)
    wait.replies(200, RUNNING)
    assert isinstance(wait.error, TimeoutError)


# Trouble on the way


@pytest.mark.parametrize(
    "trouble",
    [408, 429, 500, 502, 503, 504, *((phase, late) for phase in Phase for late in (False, True))],
)
def test_transient_trouble_does_not_end_the_wait(trouble: Any) -> None:
    wait = started()
    for _ in range(20):
        if isinstance(trouble, int):
            wait.replies(trouble)
        else:
            wait.fails(trouble[0], timed_out=trouble[1])
        assert isinstance(wait.action, Wait)
        wait.waits()
    wait.replies(200, COMPLETED)
    assert isinstance(wait.action, Done)


def test_a_reply_that_is_too_large_ends_the_wait() -> None:
    """Each further poll would read as much, and end in the same way."""
    wait = started(max_reply_size=100)
    wait.replies(200, an_envelope({**RUNNING["data"], "outputs": "x" * 200}))
    assert wait.error.code == "reply_too_large"


@pytest.mark.parametrize("known", [True, False])
def test_a_404_that_is_a_page_comes_from_a_proxy_if_the_server_is_known(known: bool) -> None:
    wait = started()
    if known:
        wait.replies(200, RUNNING)
        wait.waits()
    wait.replies(404, raw=b"<html>404 page not found</html>")
    assert isinstance(wait.action, Wait if known else Fail)


def test_a_404_in_json_is_the_apis_own_whatever_its_shape() -> None:
    wait = started()
    wait.replies(200, RUNNING)
    wait.waits()
    wait.replies(404, {"success": False, "error": "Execution not found", "details": "gone"})
    assert isinstance(wait.error, NotFoundError)


def test_a_permanent_failure_ends_the_wait() -> None:
    wait = started()
    wait.replies(200, RUNNING)
    wait.waits()
    wait.fails(Phase.NOT_SENT, permanent=True)
    assert isinstance(wait.error, ConnectionError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (404, NotFoundError),
        (403, Exception),
        (400, Exception),
        (501, ServerError),
    ],
)
def test_permanent_error_ends_the_wait(status: int, kind: Any) -> None:
    wait = started()
    wait.replies(200, RUNNING)
    wait.waits()
    wait.replies(status)
    assert isinstance(wait.error, kind)
    assert wait.error.execution_id == "ex_1"
    assert wait.error.gave_up is None


@pytest.mark.parametrize("raw", [b"<html>", b"", b"[]", b'{"data": null}', b'{"data": [1]}'])
def test_invalid_response_ends_the_wait(raw: bytes) -> None:
    wait = started()
    wait.replies(200, raw=raw)
    assert (wait.error.code, wait.error.execution_id) == ("invalid_response", "ex_1")


ELSEWHERE = {"Location": "https://login.test/"}


def test_from_a_server_that_is_known_it_is_a_page_on_the_way() -> None:
    wait = started()
    wait.replies(200, RUNNING)
    wait.waits()
    assert isinstance(wait.replies(200, raw=b"<html>"), Wait)
    wait.waits()
    assert isinstance(wait.replies(302, headers=ELSEWHERE), Wait)


def test_a_redirect_elsewhere_ends_it() -> None:
    wait = started()
    wait.replies(302, headers=ELSEWHERE)
    assert wait.error.code == "redirect_refused"


def test_a_retry_after_that_fits_is_waited_out_even_above_a_minute() -> None:
    assert started().replies(429, headers={"Retry-After": "200"}) == Wait(200.0)


@pytest.mark.parametrize("seconds", ["301", "86400"])
def test_a_retry_after_beyond_the_deadline_is_raised_at_once(seconds: str) -> None:
    wait = started()
    wait.replies(429, headers={"Retry-After": seconds})
    assert isinstance(wait.error, RateLimitError)
    assert wait.error.retry_after == float(seconds)
    assert wait.error.gave_up == "the server asks to wait longer than there is time for"


def test_a_used_up_daily_quota_is_raised_at_once() -> None:
    wait = started()
    wait.replies(429, an_error("rate_limit_exceeded", window="day", retry_after=5))
    assert isinstance(wait.error, RateLimitError)
    assert wait.error.gave_up == "the daily quota is used up"


def test_the_wait_after_a_failed_poll_names_its_error() -> None:
    wait = started()
    asked = wait.replies(body=RUNNING)
    assert isinstance(asked, Wait)
    assert asked.because is None
    wait.waits()
    failed = wait.fails(Phase.NOT_SENT)
    assert isinstance(failed, Wait)
    assert failed.because is not None
    assert (failed.because.outcome, failed.reconnects) == (Phase.NOT_SENT, False)


def test_a_503_may_ask_for_a_pause_and_never_for_more_than_is_left() -> None:
    wait = started(timeout=100.0)
    assert wait.replies(503, headers={"Retry-After": "70"}) == Wait(70.0)
    wait.waits()
    assert wait.replies(503, headers={"Retry-After": "70"}) == Wait(30.0)
    wait.waits()
    wait.replies(503, headers={"Retry-After": "70"})
    assert isinstance(wait.error, TimeoutError)
    assert isinstance(wait.error.__cause__, ServerError)


def test_a_429_at_the_deadline_is_a_timeout() -> None:
    wait = started(timeout=1.0)
    wait.replies(200, RUNNING)
    wait.waits(after=1.0)
    wait.replies(429)
    assert isinstance(wait.error, TimeoutError)
    assert wait.error.last_execution["status"] == "running"


def test_polling_spends_nothing_of_the_retry_budget() -> None:
    context = a_context()
    wait = Stepper(machine_for(Executions.wait_for_completion("ex_1"), context, "token"))
    wait.start()
    for _ in range(50):
        wait.fails()
        wait.waits()
    assert context.budget.tokens == context.budget.CAPACITY


# The listener


def test_a_listener_hears_of_every_answer_the_last_one_too() -> None:
    wait = started(on_poll=print)
    assert isinstance(wait.replies(200, RUNNING), Emit)
    assert isinstance(wait.takes(), Wait)
    wait.waits()
    assert isinstance(wait.fails(), Wait)
    wait.waits()
    assert isinstance(wait.replies(200, COMPLETED), Emit)
    assert isinstance(wait.takes(), Done)
    assert [item["status"] for item in wait.items] == ["running", "completed"]


def test_a_listener_may_change_what_it_is_told() -> None:
    wait = started(on_poll=print)
    told: Any = wait.replies(200, COMPLETED)
    told.items[0].clear()
    assert isinstance(wait.takes(), Done)
    assert wait.value["status"] == "completed"


def test_a_slow_listener_counts_against_the_deadline() -> None:
    wait = started(on_poll=print, timeout=5.0)
    wait.replies(200, RUNNING)
    wait.takes(after=6.0)
    assert wait.error.last_execution["status"] == "running"


# All of it

REPLIES = (
    a_response(200, RUNNING),
    a_response(200, COMPLETED),
    a_response(200, an_envelope(None)),
    a_response(302, headers={"Location": "/x"}),
    a_response(404),
    a_response(429, headers={"Retry-After": "400"}),
    a_response(500),
)


def test_the_table_is_true() -> None:
    world = Possibilities(REPLIES)
    assert_table_is_true(
        WaitMachine,
        wander(lambda: waiting(timeout=20.0), world, walks=300),
        wander(lambda: waiting(timeout=20.0, on_poll=print), world, walks=300),
    )


class WaitProperties(MachineProperties):
    timeout = 30.0
    on_poll: Optional[Any] = None
    responses = responses(
        st.one_of(
            st.just(a_response(body=RUNNING).body),
            st.fixed_dictionaries({"status": st.one_of(st.just("completed"), json_values)}).map(
                lambda data: a_response(body=an_envelope(data)).body
            ),
            json_values.map(lambda value: a_response(body=an_envelope(value)).body),
        )
    )

    def make(self) -> Stepper:
        return waiting(timeout=self.timeout, on_poll=self.on_poll)

    def check(self) -> None:
        """It never sleeps past its deadline, and asks again only after a pause.

        But if the process was held up past the deadline, the last poll comes at once.
        """
        action = self.stepper.action
        if isinstance(action, Wait) and action.seconds == 0:
            assert self.stepper.now > 1000.0 + self.timeout + LAST_POLL_TIMEOUT
        elif isinstance(action, Wait):
            assert self.stepper.now + action.seconds <= 1000.0 + self.timeout + 1e-9
            assert action.seconds > 0
        if isinstance(action, Fail):
            error: Any = action.error
            assert error.execution_id == "ex_1"
        if isinstance(action, Done):
            assert is_terminal(action.value)


class HeardWaitProperties(WaitProperties):
    on_poll = print


TestWaitProperties = collected(WaitProperties)
TestHeardWaitProperties = collected(HeardWaitProperties)


def test_a_poll_lost_in_a_pause_of_the_process_is_sent_again() -> None:
    wait = started(timeout=10.0)
    assert wait.fails(timed_out=True, after=60.0) == Wait(0.0)
    assert wait.waits().timeout == LAST_POLL_TIMEOUT
    assert isinstance(wait.replies(200, COMPLETED), Done)


def test_a_second_lost_poll_after_a_pause_ends_the_wait() -> None:
    wait = started(timeout=10.0)
    wait.fails(timed_out=True, after=60.0)
    wait.waits()
    wait.fails(timed_out=True, after=1.5)
    assert isinstance(wait.error, TimeoutError)
