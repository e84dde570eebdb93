"""One call: what is sent, when it is sent again, what it ends with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

import pytest
from hypothesis import strategies as st
from properties import MachineProperties, collected, json_values, responses
from stepping import (
    Possibilities,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    an_error,
    assert_table_is_true,
    wander,
)

from flowmaestro_core import shapes
from flowmaestro_core.actions import Close, Done, Fail, Open, Read, Send, Wait
from flowmaestro_core.call import MAX_OTHER_BODY, MAX_REDIRECTS, Call, CallMachine, Proof
from flowmaestro_core.errors import (
    Attempt,
    AuthenticationError,
    ConnectionError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TimeoutError,
    ValidationError,
)
from flowmaestro_core.http import Headers, Phase, ResponseHead
from flowmaestro_core.retry import RetryPolicy

GET = Call[Any]("GET", "/workflows/wf_1")
EXECUTE = Call[Any]("POST", "/workflows/wf_1/execute", b'{"inputs":{}}', repeatable=False)
ASK = Call[Any]("GET", "/executions/ex_1", shape=shapes.execution)
CANCEL = Call[Any](
    "POST",
    "/executions/ex_1/cancel",
    proof=Proof(400, ASK, lambda reply: reply["data"]["status"] == "cancelled"),
)
DELETE = Call[Any](
    "DELETE", "/threads/th_1", shape=lambda body: shapes.deleted("th_1", body), proof=Proof(404)
)
TRANSIENT = [408, 500, 502, 503, 504]
NO_SECOND_TIME = "the server may have acted, and doing it twice does harm"


def calling(call: Call[Any], options: Optional[Dict[str, Any]] = None, **more: Any) -> Stepper:
    machine = CallMachine(call, a_context(**(options or {})), "token", **more)
    return Stepper(machine, once=lambda request: not call.repeatable)


def started(call: Call[Any], options: Optional[Dict[str, Any]] = None, **more: Any) -> Stepper:
    stepper = calling(call, options, **more)
    stepper.start()
    return stepper


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


def test_a_get_has_no_body_no_content_type_and_no_idempotency_key() -> None:
    request = GET.request(a_context().options, "token")
    assert request.body == b""
    assert not {"content-type", "idempotency-key"} & set(request.headers)


def test_a_post_carries_its_key_and_the_callers_key_wins() -> None:
    options = a_context().options
    assert EXECUTE.request(options, "token").headers["idempotency-key"] == "token"
    own = replace(EXECUTE, idempotency_key="mine")
    assert own.request(options, "token").headers["idempotency-key"] == "mine"


def test_every_attempt_is_the_same_request() -> None:
    call = started(EXECUTE)
    call.fails(Phase.NOT_SENT)
    call.waits()
    first, second = call.sent
    assert first == second
    assert first.headers.pairs == second.headers.pairs


def test_an_endpoint_that_needs_longer_gets_longer_unless_the_caller_says_otherwise() -> None:
    slow = replace(EXECUTE, minimum_timeout=130.0)
    assert calling(slow).start() == Send(slow.request(a_context().options, "token"), 130.0)
    action = calling(slow, {"call_timeout": 2.0}).start()
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


@pytest.mark.parametrize("raw", [b"<html>", b"\xff", b"{", b"[" * 100_000])
def test_a_reply_that_is_no_json_is_an_error_with_the_request_id(raw: bytes) -> None:
    call = started(GET)
    call.replies(200, raw=raw, headers={"X-Request-ID": "req_9"})
    assert (call.error.code, call.error.request_id) == ("invalid_response", "req_9")


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


def test_delays_grow_with_full_jitter() -> None:
    call = started(GET, {"max_retries": 8})
    for _ in range(8):
        call.replies(500)
        call.waits()
    assert call.waited_for == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_delays_after_a_429_begin_at_a_second() -> None:
    call = started(GET)
    for _ in range(3):
        call.replies(429)
        call.waits()
    assert call.waited_for == [0.5, 1.0, 2.0]


def test_no_retry_when_none_is_allowed() -> None:
    call = started(GET, {"max_retries": 0})
    call.replies(500)
    assert call.error.attempts == (Attempt(1, 500, "server_error"),)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 422, 501, 505, 304, 418])
def test_what_no_retry_mends_is_raised_at_once(status: int) -> None:
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


def test_a_reply_after_failures_says_how_many_attempts_it_took() -> None:
    call = started(GET)
    call.fails()
    call.waits()
    call.replies(503)
    call.waits()
    call.replies(200, an_envelope({}))
    assert call.value.attempts == 3


# What must not be done twice


@pytest.mark.parametrize("phase", [Phase.MAYBE_PROCESSED, Phase.REPLY_BROKEN])
def test_a_call_that_may_have_been_processed_is_not_sent_again(phase: Phase) -> None:
    call = started(EXECUTE)
    call.fails(phase)
    assert call.error.gave_up == NO_SECOND_TIME
    assert len(call.sent) == 1


def test_a_call_that_was_not_sent_is_sent_again() -> None:
    call = started(EXECUTE)
    call.fails(Phase.NOT_SENT)
    call.waits()
    call.replies(202, an_envelope({"execution_id": "ex_1"}))
    assert call.value.attempts == 2


@pytest.mark.parametrize("status", TRANSIENT)
def test_a_call_that_the_server_took_up_is_not_sent_again(status: int) -> None:
    call = started(EXECUTE)
    call.replies(status)
    assert call.error.gave_up == NO_SECOND_TIME
    assert len(call.sent) == 1


@pytest.mark.parametrize(
    ("status", "headers"), [(429, {}), (429, {"Retry-After": "1"}), (503, {"Retry-After": "1"})]
)
def test_a_call_that_the_server_turned_away_is_sent_again(
    status: int, headers: Dict[str, str]
) -> None:
    call = started(EXECUTE)
    assert isinstance(call.replies(status, headers=headers), Wait)


@pytest.mark.parametrize("garbage", ["soon", "-1", "nan", "inf", ""])
def test_a_503_with_a_garbled_retry_after_turns_nobody_away(garbage: str) -> None:
    call = started(EXECUTE)
    call.replies(503, headers={"Retry-After": garbage})
    assert call.error.gave_up == NO_SECOND_TIME


# What the server asks for


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"retry-after-ms": "2500", "Retry-After": "9"}, 2.5),
        (
            {
                "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
                "Retry-After": "Sun, 06 Nov 1994 08:49:57 GMT",
            },
            20.0,
        ),
        ({"Retry-After": "60"}, 60.0),
    ],
)
def test_retry_after_is_a_floor(status: int, headers: Dict[str, str], seconds: float) -> None:
    call = started(GET)
    assert call.replies(status, headers=headers) == Wait(seconds)
    assert started(GET).replies(status, headers={"Retry-After": "0"}) == Wait(
        0.5 if status == 429 else 0.25
    )


def test_a_429_may_say_it_in_its_body_alone() -> None:
    call = started(GET)
    body = an_error("rate_limit_exceeded", window="minute", retry_after=9)
    assert call.replies(429, body) == Wait(9.0)


def test_a_pause_longer_than_a_minute_is_raised_with_the_value() -> None:
    call = started(GET)
    call.replies(429, headers={"Retry-After": "61"})
    assert isinstance(call.error, RateLimitError)
    assert call.error.retry_after == 61.0
    assert "61 s" in str(call.error.gave_up)
    call = started(GET)
    call.replies(503, headers={"Retry-After": "3600"})
    assert (type(call.error), call.error.retry_after) == (ServerError, 3600.0)


def test_a_spent_day_is_raised_at_once() -> None:
    call = started(GET)
    body = an_error("rate_limit_exceeded", window="day", retry_after=5)
    call.replies(429, body, {"Retry-After": "5"})
    assert call.error.retry_after == 5.0
    assert call.error.gave_up == "the day's allowance is spent"


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


def test_an_attempt_at_the_deadline_still_gets_a_moment() -> None:
    action = calling(GET, deadline=1000.0).start()
    assert isinstance(action, Send)
    assert 0 < action.timeout < 0.01


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


def test_a_redirect_without_a_location_is_refused() -> None:
    call = started(GET)
    call.replies(302)
    assert call.error.code == "redirect_refused"


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


def test_a_retry_goes_where_the_redirect_led() -> None:
    call = started(GET)
    call.replies(302, headers={"Location": "/x"})
    call.replies(500)
    call.waits()
    assert call.sent[-1].url == "https://api.test/x"


# Proofs


def refused_after(call: Call[Any], refusal: int, lost: Optional[int] = None) -> Stepper:
    """The first reply is lost (or is a 5xx), the repeat is refused."""
    stepper = started(call)
    if lost is None:
        stepper.fails(Phase.MAYBE_PROCESSED)
    else:
        stepper.replies(lost)
    stepper.waits()
    stepper.replies(refusal, an_error("refused"), {"X-RateLimit-Remaining": "3"})
    return stepper


@pytest.mark.parametrize("lost", [None, 500, 502, 408])
def test_a_cancellation_whose_reply_was_lost_is_proved_by_the_execution(lost: Any) -> None:
    call = refused_after(CANCEL, 400, lost)
    assert call.sent[-1].url.endswith("/executions/ex_1")
    call.replies(200, an_envelope({"id": "ex_1", "status": "cancelled"}))
    assert call.value["data"]["status"] == "cancelled"
    assert call.value.attempts == 3


def test_an_execution_that_had_ended_was_not_cancelled() -> None:
    call = refused_after(CANCEL, 400)
    call.replies(200, an_envelope({"status": "completed"}))
    assert isinstance(call.error, ValidationError)
    assert [attempt.outcome for attempt in call.error.attempts] == [Phase.MAYBE_PROCESSED, 400]


def test_the_question_survives_an_outage_and_its_failure_leaves_the_refusal() -> None:
    call = refused_after(CANCEL, 400)
    call.replies(302, headers={"Location": "/x"})
    call.fails()
    call.waits()
    call.replies(200, an_envelope({"status": "cancelled"}))
    assert call.value["data"]["status"] == "cancelled"
    call = refused_after(CANCEL, 400)
    call.replies(404)
    assert isinstance(call.error, ValidationError)
    call = refused_after(CANCEL, 400)
    for _ in range(3):
        call.fails()
        call.waits()
    call.fails()
    assert isinstance(call.error, ValidationError)


def test_a_question_answered_with_nonsense_leaves_the_refusal() -> None:
    call = refused_after(CANCEL, 400)
    call.replies(200, an_envelope(None))
    assert isinstance(call.error, ValidationError)


@pytest.mark.parametrize("lost", [None, 500])
def test_a_deletion_whose_reply_was_lost_is_proved_by_the_404(lost: Any) -> None:
    call = refused_after(DELETE, 404, lost)
    assert call.value["data"] == {"id": "th_1", "deleted": True}
    assert call.value.attempts == 2
    assert call.value.rate_limit.remaining == 3


@pytest.mark.parametrize(("call", "refusal"), [(CANCEL, 400), (DELETE, 404)])
def test_a_refusal_of_what_cannot_have_happened_proves_nothing(
    call: Call[Any], refusal: int
) -> None:
    first = started(call)
    first.replies(refusal)
    assert first.error.status_code == refusal
    second = started(call)
    second.fails(Phase.NOT_SENT)
    second.waits()
    second.replies(refusal)
    assert second.error.status_code == refusal
    third = started(call)
    third.replies(429)
    third.waits()
    third.replies(refusal)
    assert third.error.status_code == refusal


def test_another_refusal_proves_nothing() -> None:
    call = refused_after(DELETE, 401)
    assert isinstance(call.error, AuthenticationError)


# Asking for an event stream


def opening(call: Call[Any] = GET, **more: Any) -> Stepper:
    return started(call, stream=True, **more)


def test_a_stream_is_asked_for_uncompressed_and_its_body_stays_open() -> None:
    call = calling(GET, stream=True, headers=(("Last-Event-ID", "7"),))
    action = call.start()
    assert isinstance(action, Open)
    sent = action.request.headers
    assert sent["accept"] == "text/event-stream"
    assert sent["accept-encoding"] == "identity"
    assert sent["last-event-id"] == "7"
    call.opens(headers={"X-Request-ID": "req_9"})
    assert isinstance(call.value, ResponseHead)
    assert call.value.headers["x-request-id"] == "req_9"
    assert call.body_open


@pytest.mark.parametrize("kind", ["TEXT/Event-Stream", "text/event-stream; charset=latin-1"])
def test_a_media_type_has_parameters_and_no_case(kind: str) -> None:
    call = opening()
    assert isinstance(call.opens(content_type=kind), Done)


def test_another_reply_is_read_whole_and_judged() -> None:
    call = opening()
    assert call.opens(404, "application/json") == Read(30.0)
    assert call.receives(b'{"error": {"code": "resource_not', after=10.0) == Read(20.0)
    call.receives(b'_found"}}')
    call.ends()
    assert isinstance(call.error, NotFoundError)
    assert call.error.code == "resource_not_found"


def test_json_is_a_result_too() -> None:
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.receives(b'{"data": {"status": "pending"}}')
    call.ends()
    assert call.value["data"] == {"status": "pending"}


@pytest.mark.parametrize("status", [503, 429])
def test_an_error_reply_is_tried_again_from_a_fresh_start(status: int) -> None:
    call = opening()
    call.opens(status, "text/html")
    call.receives(b"<html>")
    assert isinstance(call.ends(), Wait)
    assert isinstance(call.waits(), Open)
    call.opens(200, "application/json")
    call.receives(b'{"data": {}}')
    call.ends()
    assert call.value["data"] == {}


def test_a_redirect_of_a_stream_is_followed() -> None:
    call = opening()
    call.opens(302, "text/html", {"Location": "/x"})
    action = call.ends()
    assert isinstance(action, Open)
    assert action.request.url == "https://api.test/x"


def test_an_error_reply_that_does_not_end_is_closed_and_judged_by_its_status() -> None:
    call = opening()
    call.opens(401, "text/html")
    call.receives(b"<html>", after=29.0)
    assert call.stays_quiet() == Close()
    call.closes()
    assert isinstance(call.error, AuthenticationError)


def test_an_error_reply_that_breaks_off_is_judged_by_its_status() -> None:
    call = opening()
    call.opens(401, "text/html")
    call.fails(Phase.REPLY_BROKEN)
    assert isinstance(call.error, AuthenticationError)


def test_a_redirect_that_does_not_end_is_followed() -> None:
    call = opening()
    call.opens(302, "text/html", {"Location": "/x"})
    call.stays_quiet()
    assert isinstance(call.closes(), Open)


def test_a_reply_that_dribbles_is_closed_in_time() -> None:
    call = opening()
    call.opens(200, "application/json")
    for _ in range(29):
        assert isinstance(call.receives(b" ", after=1.0), Read)
    assert call.receives(b" ", after=1.0) == Close()
    assert isinstance(call.closes(), Wait)


@pytest.mark.parametrize("phase", list(Phase))
def test_once_a_reply_has_begun_the_request_was_sent_whatever_a_transport_says(
    phase: Phase,
) -> None:
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.fails(phase)
    assert call.error.attempts[0].outcome is Phase.REPLY_BROKEN
    assert len(call.sent) == 1


def test_a_reply_that_breaks_off_is_lost() -> None:
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.fails(Phase.REPLY_BROKEN)
    assert isinstance(call.error, ConnectionError)
    call = opening(EXECUTE)
    call.opens(200, "application/json")
    call.stays_quiet()
    call.closes()
    assert isinstance(call.error, TimeoutError)
    assert call.error.gave_up == NO_SECOND_TIME


def test_a_long_text_instead_of_events_is_not_read_to_its_end() -> None:
    call = opening()
    call.opens(200, "text/html")
    assert call.receives(b"x" * (MAX_OTHER_BODY + 1)) == Close()
    call.closes()
    assert call.error.code == "invalid_response"
    call = opening()
    call.opens(500, "text/html")
    call.receives(b"x" * (MAX_OTHER_BODY + 1))
    assert isinstance(call.closes(), Wait)


@pytest.mark.parametrize("phase", list(Phase))
def test_opening_is_tried_again_only_where_that_is_safe(phase: Phase) -> None:
    call = opening(EXECUTE)
    call.fails(phase)
    assert isinstance(call.action, Wait if phase is Phase.NOT_SENT else Fail)


def test_a_policy_of_its_own() -> None:
    call = opening(policy=RetryPolicy(max_retries=0))
    call.fails()
    assert isinstance(call.action, Fail)


# All of it


REPLIES = (
    a_response(200, an_envelope({"status": "cancelled"})),
    a_response(200, an_envelope({"status": "running"})),
    a_response(200, an_envelope([])),
    a_response(204),
    a_response(302, headers={"Location": "/x"}),
    a_response(400),
    a_response(404),
    a_response(429, headers={"Retry-After": "1"}),
    a_response(500),
)
HEADS = (
    *(ResponseHead(reply.status, reply.headers) for reply in REPLIES),
    ResponseHead(200, Headers({"Content-Type": "text/event-stream"})),
)


def test_the_table_is_true() -> None:
    world = Possibilities(REPLIES, HEADS, (b"{", b'{"data": {}}'))
    taken = wander(lambda: calling(CANCEL), world, walks=2000)
    taken |= wander(lambda: calling(DELETE), world, walks=100)
    taken |= wander(lambda: calling(GET, stream=True), world, walks=1000)
    assert_table_is_true(CallMachine, taken)


class CallProperties(MachineProperties):
    call = GET
    stream = False
    responses = responses(
        st.one_of(
            st.sampled_from(
                [b'{"data": {"status": "cancelled"}}', b'{"data": null}', b'{"error": "x"}']
            ),
            json_values.map(lambda value: a_response(body=an_envelope(value)).body),
            json_values.map(lambda value: a_response(body={"error": value}).body),
        )
    )

    def make(self) -> Stepper:
        return calling(self.call, stream=self.stream)

    def check(self) -> None:
        redirected = MAX_REDIRECTS if self.call.method == "GET" else 0
        asked = 0 if self.call.proof is None or self.call.proof.ask is None else 4 + MAX_REDIRECTS
        assert len(self.stepper.sent) <= 4 + redirected + asked
        assert len({request.headers.pairs for request in self.stepper.sent}) <= (2 if asked else 1)
        assert sum(self.stepper.waited_for) <= 60 * 6


class ExecuteProperties(CallProperties):
    call = EXECUTE


class CancelProperties(CallProperties):
    call = CANCEL


class DeleteProperties(CallProperties):
    call = DELETE


class OpenProperties(CallProperties):
    stream = True


class OpenOnceProperties(CallProperties):
    call = EXECUTE
    stream = True


TestCallProperties = collected(CallProperties)
TestExecuteProperties = collected(ExecuteProperties)
TestCancelProperties = collected(CancelProperties)
TestDeleteProperties = collected(DeleteProperties)
TestOpenProperties = collected(OpenProperties)
TestOpenOnceProperties = collected(OpenOnceProperties)
