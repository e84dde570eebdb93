"""What bounds a call: the client's retry budget, deadlines, and its own origin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flowmaestro_core.actions import Fail, Send, Wait
from flowmaestro_core.calls.call import MAX_REDIRECTS, Call, CallMachine
from tests.harness.core.calls import CANCEL, DELETE, EXECUTE, GET, calling, started
from tests.harness.core.stepping import Stepper, a_context, an_envelope

# The budget


def test_an_outage_is_not_multiplied() -> None:
    context = a_context()
    attempts = 0
    for _ in range(100):
        call = Stepper(CallMachine(GET, context, "token"))
        call.start()
        while not isinstance(call.replies(500), Fail):
            call.waits()
        attempts += len(call.sent)
    assert attempts == 100 + context.budget.CAPACITY // context.budget.TRANSIENT
    assert call.error.gave_up == "the client's retry budget is spent"
    assert context.budget.tokens < context.budget.TRANSIENT


def test_success_gives_back_what_its_last_retry_cost() -> None:
    context = a_context()
    for status, spent in [(500, 14), (429, 5)]:
        context.budget.tokens = 100
        call = Stepper(CallMachine(GET, context, "token"))
        call.start()
        call.replies(status)
        assert context.budget.tokens == 100 - spent
        call.waits()
        call.replies(200, an_envelope({}))
        assert context.budget.tokens == 100


def test_a_first_success_gives_back_one() -> None:
    context = a_context()
    context.budget.tokens = 100
    call = Stepper(CallMachine(GET, context, "token"))
    call.start()
    call.replies(200, an_envelope({}))
    assert context.budget.tokens == 101


# Deadlines


def test_a_deadline_shortens_the_attempt_and_forbids_a_late_retry() -> None:
    call = calling(GET, deadline=1010.0)
    action = call.start()
    assert isinstance(action, Send)
    assert action.timeout == 10.0
    assert call.replies(500, after=9.0) == Wait(0.25)
    action = call.waits()
    assert isinstance(action, Send)
    assert action.timeout == 0.75
    call.replies(500, after=0.5)
    assert "after the deadline" in str(call.error.gave_up)


def test_a_retry_after_beyond_the_deadline_is_raised_at_once() -> None:
    call = started(GET, deadline=1010.0)
    call.replies(429, headers={"Retry-After": "10"})
    assert call.error.retry_after == 10.0
    assert "after the deadline" in str(call.error.gave_up)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/x?y=1#z", "https://api.test/v2/x?y=1"),
        ("https://API.test:443/x", "https://API.test:443/x"),
        ("wf_2", "https://api.test/api/v1/workflows/wf_2"),
        ("//api.test/é", "https://api.test/%C3%A9"),
    ],
)
def test_a_get_is_redirected_within_its_origin(status: int, location: str, target: str) -> None:
    call = started(GET)
    action = call.replies(status, headers={"Location": location})
    assert isinstance(action, Send)
    assert action.request == replace(call.sent[0], url=target)
    assert action.request.headers["x-api-key"] == "fm_live_key"


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.test/",
        "http://api.test/",
        "https://api.test:8443/",
        "//evil.test",
        "",
        "http://[",
        "https://api.test:x/",
        "mailto:me@api.test",
        "https://me:pw@api.test/",
    ],
)
def test_the_key_never_leaves_its_origin(location: str) -> None:
    call = started(GET)
    call.replies(302, headers={"Location": location, "X-Request-ID": "req_9"})
    assert (call.error.code, call.error.status_code) == ("redirect_refused", 302)
    assert call.error.request_id == "req_9"
    assert len(call.sent) == 1


@pytest.mark.parametrize("call", [EXECUTE, CANCEL, DELETE])
def test_only_a_get_is_redirected(call: Call[Any]) -> None:
    stepper = started(call)
    stepper.replies(307, headers={"Location": "/elsewhere"})
    assert stepper.error.code == "redirect_refused"


def test_a_redirect_loop_ends() -> None:
    call = started(GET)
    for _ in range(MAX_REDIRECTS):
        assert isinstance(call.replies(302, headers={"Location": GET.path}), Send)
    call.replies(302, headers={"Location": GET.path})
    assert call.error.code == "redirect_refused"
    assert len(call.sent) == 1 + MAX_REDIRECTS


def test_redirects_share_the_time_limit_of_their_attempt() -> None:
    call = started(GET, deadline=1100.0)
    action = call.action
    assert isinstance(action, Send)
    limit = action.timeout
    for spent in (10.0, 25.0):
        action = call.replies(302, headers={"Location": "/x"}, after=spent - (call.now - 1000.0))
        assert isinstance(action, Send)
        assert action.timeout == limit - spent
    call.fails(timed_out=True, after=limit - 25.0)
    action = call.waits()
    assert isinstance(action, Send)
    assert action.timeout == limit
    action = call.replies(302, headers={"Location": "/x"}, after=limit + 1.0)
    assert isinstance(action, Send)
    assert 0 < action.timeout < 0.01


def test_a_retry_goes_where_the_redirect_led() -> None:
    call = started(GET)
    call.replies(302, headers={"Location": "/x"})
    call.replies(500)
    call.waits()
    assert call.sent[-1].url == "https://api.test/x"
