"""One call: what is sent, what comes back, when it is sent again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict

import pytest

from flowmaestro_core.actions import Fail, Send, Wait
from flowmaestro_core.defaults import MAX_REPLY_SIZE
from flowmaestro_core.errors import (
    Attempt,
    ConnectionError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TimeoutError,
)
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.machines import machine_for
from tests.harness.core.calls import EXECUTE, GET, NOT_RETRIED, TRANSIENT, calling, started
from tests.harness.core.stepping import Stepper, a_context, an_envelope, an_error


@pytest.mark.parametrize(
    ("status", "message", "headers", "maybe"),
    [
        (500, "No", {}, True),
        (503, "No", {}, True),
        (503, "No", {"Retry-After": "1"}, False),
        (500, "No", {"Retry-After": "1"}, True),
        (500, "invalid input syntax for type uuid: no", {}, False),
        (422, "No", {}, False),
    ],
)
def test_error_of_a_start_says_whether_it_may_have_been_processed(
    status: int, message: str, headers: Dict[str, str], maybe: bool
) -> None:
    call = started(EXECUTE, {"max_retries": 0})
    call.replies(status, an_error("refused", message), headers)
    assert call.error.maybe_processed is maybe


@pytest.mark.parametrize("phase", Phase)
def test_lost_start_may_have_been_processed_unless_it_was_not_sent(phase: Phase) -> None:
    call = started(EXECUTE, {"max_retries": 0})
    call.fails(phase)
    assert call.error.maybe_processed is (phase is not Phase.NOT_SENT)


# The request and its reply


def test_a_call_sends_its_request_and_ends_with_the_reply() -> None:
    call = calling(GET)
    action = call.start()
    assert isinstance(action, Send)
    assert action.timeout == 30.0
    assert action.request.url == "https://api.test/api/v1/workflows/wf_1"
    assert action.request.headers["x-api-key"] == "fm_live_key"
    call.replies(200, an_envelope({"id": "wf_1"}), {"X-RateLimit-Remaining": "7"})
    assert call.value == an_envelope({"id": "wf_1"})
    assert (call.value.status_code, call.value.attempts) == (200, 1)
    assert call.value.request_id == "req_1"
    assert call.value.rate_limit.remaining == 7


def test_a_post_carries_its_key_and_the_callers_key_wins() -> None:
    options = a_context().options
    assert EXECUTE.request(options, "token").headers["idempotency-key"] == "token"
    own = replace(EXECUTE, idempotency_key="mine")
    assert own.request(options, "token").headers["idempotency-key"] == "mine"
    custom = a_context(headers={"Idempotency-Key": "of the client"}).options
    assert own.request(custom, "token").headers.get_list("idempotency-key") == ["mine"]
    assert EXECUTE.request(custom, "token").headers["idempotency-key"] == "of the client"


def test_every_attempt_is_the_same_request() -> None:
    call = started(EXECUTE)
    call.fails(Phase.NOT_SENT)
    call.waits()
    first, second = call.sent
    number = (("X-FlowMaestro-Attempt", "2"),)
    assert second.headers.pairs == first.headers.pairs + number
    assert replace(second, headers=first.headers) == first


def test_actions_tell_observers_the_attempt_and_the_reason_of_a_wait() -> None:
    call = started(GET)
    assert isinstance(call.action, Send)
    assert call.action.attempt == 1
    pause = call.replies(503, an_error("busy"))
    assert isinstance(pause, Wait)
    assert (pause.because, pause.reconnects) == (Attempt(1, 503, "busy", pause.seconds), False)
    again = call.waits()
    assert isinstance(again, Send)
    assert again.attempt == 2
    redirected = call.replies(302, headers={"Location": "/x"})
    assert isinstance(redirected, Send)
    assert redirected.attempt == 2


def test_an_endpoint_that_needs_longer_gets_longer_unless_the_caller_says_otherwise() -> None:
    slow = replace(EXECUTE, minimum_timeout=130.0)
    assert calling(slow).start() == Send(slow.request(a_context().options, "token"), 130.0)
    action = calling(slow, {"timeout_override": 2.0}).start()
    assert isinstance(action, Send)
    assert action.timeout == 2.0


@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"{}", b'{"data": null}', b'{"data": []}', b'{"data": 1}', b'"x"']
)
def test_a_reply_without_the_data_that_belongs_there_is_an_error(raw: bytes) -> None:
    call = started(GET)
    call.replies(200, raw=raw)
    assert isinstance(call.error, ServerError)
    assert (call.error.code, call.error.status_code) == ("invalid_response", 200)


def test_a_list_call_takes_a_list_and_keeps_the_rows_asked_for() -> None:
    rows = replace(GET, data_type=list, keep=lambda row: row > 1)
    call = started(rows)
    call.replies(200, an_envelope([1, 2, 3]))
    assert call.value["data"] == [2, 3]
    call = started(rows)
    call.replies(200, an_envelope({}))
    assert call.error.code == "invalid_response"


def test_an_unknown_endpoint_may_send_anything() -> None:
    anything = replace(GET, enveloped=False)
    for raw, value in [(b"", {"data": None}), (b"[1]", {"data": [1]}), (b'{"a": 1}', {"a": 1})]:
        call = started(anything)
        call.replies(200, raw=raw)
        assert call.value == value


def test_an_interim_response_is_no_success() -> None:
    call = started(GET)
    call.replies(103)
    assert call.error.status_code == 103


# Trying again


@pytest.mark.parametrize("status", [*TRANSIENT, 429])
def test_a_repeatable_call_is_tried_again_three_times(status: int) -> None:
    call = started(GET)
    for _ in range(3):
        call.replies(status)
        call.waits()
    assert call.replies(status) == Fail(call.error)
    assert len(call.sent) == 4
    assert call.error.status_code == status
    assert [attempt.outcome for attempt in call.error.attempts] == [status] * 4
    assert [attempt.delay for attempt in call.error.attempts] == [*call.waited_for, None]
    assert call.error.gave_up == "max_retries=3 is used up"
    assert "gave up after attempt 4" in str(call.error)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 501, 505, 304, 418])
def test_permanent_error_is_raised_without_retry(status: int) -> None:
    call = started(GET)
    call.replies(status, an_error("some_code", "words", a=1))
    assert (call.error.code, call.error.status_code) == ("some_code", status)
    assert call.error.gave_up is None
    assert call.error.attempts == (Attempt(1, status, "some_code"),)


def test_an_id_that_the_server_cannot_parse_is_not_found_at_once() -> None:
    call = started(GET)
    body = {"statusCode": 500, "code": "22P02", "message": "invalid input syntax for type uuid"}
    call.replies(500, body)
    assert isinstance(call.error, NotFoundError)
    assert len(call.sent) == 1


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize(("timed_out", "kind"), [(False, ConnectionError), (True, TimeoutError)])
def test_a_repeatable_call_survives_the_network(phase: Phase, timed_out: bool, kind: Any) -> None:
    call = started(GET)
    for _ in range(3):
        call.fails(phase, timed_out=timed_out)
        call.waits()
    call.fails(phase, timed_out=timed_out)
    assert type(call.error) is kind
    assert phase.value in call.error.message
    assert call.error.__cause__.phase is phase
    assert [attempt.outcome for attempt in call.error.attempts] == [phase] * 4


# What must not be done twice


@pytest.mark.parametrize("phase", [Phase.MAYBE_PROCESSED, Phase.REPLY_BROKEN])
def test_a_call_that_may_have_been_processed_is_not_sent_again(phase: Phase) -> None:
    call = started(EXECUTE)
    call.fails(phase)
    assert call.error.gave_up == NOT_RETRIED
    assert len(call.sent) == 1


@pytest.mark.parametrize("call", [GET, EXECUTE])
@pytest.mark.parametrize("stream", [False, True])
def test_a_permanent_failure_is_not_retried(call: Any, stream: bool) -> None:
    call = started(call, stream=stream)
    assert isinstance(call.fails(Phase.NOT_SENT, permanent=True), Fail)
    assert isinstance(call.error, ConnectionError)
    assert call.error.gave_up == "another attempt would fail in the same way"
    assert len(call.error.attempts) == 1


def test_a_call_that_was_not_sent_is_sent_again() -> None:
    call = started(EXECUTE)
    call.fails(Phase.NOT_SENT)
    call.waits()
    call.replies(202, an_envelope({"execution_id": "ex_1"}))
    assert call.value.attempts == 2


@pytest.mark.parametrize(
    ("status", "headers", "again"),
    [
        (429, {}, True),
        (429, {"Retry-After": "1"}, True),
        (503, {"Retry-After": "1"}, True),
        *((status, {}, False) for status in TRANSIENT),
        *((status, {"Retry-After": "1"}, False) for status in TRANSIENT if status != 503),
        *((503, {"Retry-After": malformed}, False) for malformed in ("soon", "-1", "")),
    ],
)
def test_only_a_start_that_was_rejected_unprocessed_is_sent_again(
    status: int, headers: Dict[str, str], again: bool
) -> None:
    call = started(EXECUTE)
    action = call.replies(status, headers=headers)
    assert isinstance(action, Wait if again else Fail)
    if not again:
        assert call.error.gave_up == NOT_RETRIED
    assert len(call.sent) == 1


# What the server asks for


@pytest.mark.parametrize(("status", "least"), [(429, 0.5), (503, 0.25), (500, 0.25)])
def test_retry_after_is_a_floor(status: int, least: float) -> None:
    for asked, pause in (("7", 7.0), ("60", 60.0), ("0", least)):
        assert started(GET).replies(status, headers={"Retry-After": asked}) == Wait(pause)


def test_a_pause_longer_than_a_minute_is_raised_with_the_value() -> None:
    call = started(GET)
    call.replies(429, headers={"Retry-After": "61"})
    assert isinstance(call.error, RateLimitError)
    assert call.error.retry_after == 61.0
    assert "61 s" in str(call.error.gave_up)
    call = started(GET)
    call.replies(503, headers={"Retry-After": "3600"})
    assert (type(call.error), call.error.retry_after) == (ServerError, 3600.0)


def test_a_used_up_daily_quota_is_raised_at_once() -> None:
    call = started(GET)
    body = an_error("rate_limit_exceeded", window="day", retry_after=5)
    call.replies(429, body, {"Retry-After": "5"})
    assert call.error.retry_after == 5.0
    assert call.error.gave_up == "the daily quota is used up"


def test_a_reply_has_a_largest_size() -> None:
    context = replace(a_context(), max_reply_size=40)
    for extra, refused in (("", False), (" ", True)):
        call = Stepper(machine_for(GET, context, "token"))
        call.start()
        call.replies(200, raw=(b'{"data": {}}' + extra.encode()).ljust(40 + len(extra)))
        assert call.machine.state == ("failed" if refused else "done")
    assert isinstance(call.error, ServerError)
    assert call.error.code == "reply_too_large"
    assert "more bytes than max_reply_size=40" in call.error.message
    assert call.error.gave_up is None
    assert MAX_REPLY_SIZE == 16 * 1024 * 1024
    with pytest.raises(ValueError, match="max_reply_size must be at least 1"):
        replace(context, max_reply_size=0)
