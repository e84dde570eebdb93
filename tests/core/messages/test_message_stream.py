"""Sending a message and following its answer, whichever of three ways the server has."""

from __future__ import annotations

from typing import Any, Dict

import pytest
from hypothesis import strategies as st

from flowmaestro_core.actions import Close, Done, Emit, Fail, Open, Read, Send, Wait
from flowmaestro_core.errors import (
    AuthenticationError,
    NotFoundError,
    ServerError,
    StreamError,
    TimeoutError,
)
from flowmaestro_core.streams.events import MESSAGE_TERMINAL
from tests.harness.core.answers import (
    NOT_YET,
    WRITTEN,
    completed,
    finishes,
    is_post,
    started,
    unsent,
)
from tests.harness.core.followed import kinds
from tests.harness.core.properties import MachineProperties, collected, json_values, responses
from tests.harness.core.stepping import Stepper, a_response, an_envelope, sse

ANSWER = {
    "execution_id": "ex_1",
    "thread_id": "th_1",
    "status": "completed",
    "message": {"role": "assistant", "content": "Hello!", "tool_calls": [], "created_at": "t"},
}


def answered(data: Any, *, status: int = 200) -> Stepper:
    """The POST was answered with JSON."""
    stepper = started()
    stepper.opens(status, "application/json", {"X-Request-ID": "req_7"})
    stepper.receives(a_response(body={"data": data}).body)
    stepper.ends()
    return stepper


def not_offered() -> Stepper:
    """The POST was answered with 501, so that the message is sent whole."""
    stepper = started()
    stepper.opens(501, "application/json")
    stepper.receives(b'{"error": {"code": "not_implemented"}}')
    stepper.ends()
    return stepper


# 1. The POST itself is the stream


def test_the_post_may_be_the_stream() -> None:
    message = unsent()
    action = message.start()
    assert isinstance(action, Open)
    assert action.timeout == 130.0
    assert action.request.body == b'{"content":"Hi","stream":true}'
    assert action.request.headers["idempotency-key"] == "token"
    assert message.opens(headers={"X-Request-ID": "req_7"}) == Read(130.0)
    assert message.machine.message is None  # type: ignore[attr-defined]
    message.receives(sse("message:started") + sse("message:token", {"token": "Hello"}))
    assert message.takes_all() == Read(130.0)
    message.receives(completed("Hello"))
    assert message.action == Close()
    message.closes()
    assert isinstance(message.takes(), Done)
    assert kinds(message) == ["message:started", "message:token", "message:completed"]
    assert message.machine.request_id == "req_7"  # type: ignore[attr-defined]
    assert len(message.sent) == 1


def test_a_failed_answer_ends_the_stream_too() -> None:
    message = started()
    message.opens()
    message.receives(sse("message:failed", {"error": "why"}))
    message.closes()
    assert isinstance(message.takes(), Done)
    assert message.items[-1]["error"] == "why"
    assert message.machine.message is None  # type: ignore[attr-defined]


# 2. The answer is still to come

TO_COME = {"message_id": "m", "thread_id": "th_1", "status": "processing"}


@pytest.mark.parametrize(
    "status",
    ["pending", "PROCESSING", "queued", "running", "in_progress", "accepted", "sent", "waiting"],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_that_is_still_to_come_is_polled_for(status: str, streaming: bool) -> None:
    reply = {**TO_COME, "status": status}
    if streaming:
        message = answered(reply)
    else:
        message = not_offered()
        message.replies(200, an_envelope(reply))
    waits = []
    for _ in range(4):
        assert isinstance(message.action, Send)
        assert message.action.request.url.endswith("/threads/th_1/messages?page=1&per_page=100")
        message.replies(200, NOT_YET)
        assert isinstance(message.action, Wait)
        waits.append(message.action.seconds)
        message.waits()
    assert waits == sorted(waits)
    message.replies(200, WRITTEN)
    finishes(message, "Hello you", "message:completed")
    ids = {"message_id": "m", "thread_id": "th_1"}
    assert message.items[0] == {"type": "message:token", **ids, "token": "Hello you"}
    assert message.machine.message["content"] == "Hello you"  # type: ignore[attr-defined]
    assert message.machine.message["thread_id"] == "th_1"  # type: ignore[attr-defined]
    assert len([request for request in message.sent if is_post(request)]) == (1 if streaming else 2)


def test_an_answer_that_does_not_come_is_a_timeout() -> None:
    message = answered(TO_COME)
    begun = message.now
    while not isinstance(message.action, Fail):
        message.waits() if isinstance(message.action, Wait) else message.replies(200, NOT_YET)
    assert isinstance(message.error, TimeoutError)
    assert message.now == pytest.approx(begun + 130)


@pytest.mark.parametrize("status", [404, 502])
def test_a_poll_answered_with_html_of_a_proxy_is_repeated(status: int) -> None:
    message = answered(TO_COME)
    message.replies(status, raw=b"<html>")
    assert isinstance(message.action, Wait)
    message.waits()
    message.replies(200, WRITTEN)
    finishes(message, "Hello you", "message:completed")


def test_a_permanently_refused_poll_is_raised() -> None:
    message = answered(TO_COME)
    message.replies(401)
    assert isinstance(message.error, AuthenticationError)


def test_an_answer_to_come_without_an_id_is_an_error_at_once() -> None:
    message = answered({"status": "pending"})
    assert isinstance(message.error, StreamError)
    assert "message_id" in str(message.error)
    assert len(message.sent) == 1


# 3. The server does not stream


def test_without_streaming_the_message_is_sent_whole_and_the_events_are_made() -> None:
    message = not_offered()
    action = message.action
    assert isinstance(action, Send)
    assert action.timeout == 130.0
    assert action.request.body == b'{"content":"Hi","stream":false}'
    message.replies(200, an_envelope(ANSWER))
    message.takes_all()
    assert isinstance(message.action, Done)
    assert kinds(message) == ["message:started", "message:token", "message:completed"]
    assert message.items[1]["token"] == "Hello!"
    last = message.items[2]
    assert message.machine.message == last  # type: ignore[attr-defined]
    assert (last["content"], last["thread_id"]) == ("Hello!", "th_1")
    assert last["usage"] == dict.fromkeys(["prompt_tokens", "completion_tokens", "total_tokens"])
    assert message.machine.request_id == "req_1"  # type: ignore[attr-defined]


def test_another_body_has_another_idempotency_key() -> None:
    first, second = not_offered().sent
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


def test_message_and_request_id_are_none_before_the_stream_opens() -> None:
    machine: Any = started().machine
    assert (machine.last_event_id, machine.reconnects, machine.request_id) == ("", 0, None)


def test_a_whole_answer_to_the_first_post_is_taken_as_it_is() -> None:
    message = answered({**ANSWER, "usage": {"total_tokens": 7}})
    message.takes_all()
    assert isinstance(message.action, Done)
    assert message.items[-1]["usage"]["total_tokens"] == 7
    assert len(message.sent) == 1


@pytest.mark.parametrize(
    "message_field", [None, {"content": None}, {"content": ""}, {"content": 1}]
)
def test_an_answer_without_text_has_no_token(message_field: Any) -> None:
    message = answered({"status": "completed", "message": message_field})
    message.takes_all()
    assert kinds(message) == ["message:started", "message:completed"]


# Never twice


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (404, NotFoundError), (500, ServerError)]
)
def test_a_refused_message_is_an_error(status: int, kind: Any) -> None:
    message = started()
    message.opens(status, "application/json")
    message.ends()
    assert isinstance(message.error, kind)
    message = not_offered()
    message.replies(status)
    assert isinstance(message.error, kind)


def test_message_sent_whole_after_a_501_has_another_key_of_the_caller() -> None:
    message = started(idempotency_key="order-4711")
    message.opens(501, "application/json")
    message.ends()
    keys = [request.headers["Idempotency-Key"] for request in message.sent]
    assert keys == ["order-4711", "order-4711-whole"]


def test_a_second_501_is_an_error() -> None:
    message = not_offered()
    message.replies(501)
    assert message.error.status_code == 501


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_a_reply_without_an_answer_is_an_error(data: Any) -> None:
    assert answered(data).error.code == "invalid_response"
    message = not_offered()
    message.replies(200, an_envelope(data))
    assert message.error.code == "invalid_response"


# All of it

PENDING = b'{"data": {"status": "pending", "message_id": "m"}}'
answers = st.one_of(
    st.sampled_from([PENDING, a_response(body=an_envelope(ANSWER)).body]),
    st.dictionaries(
        st.sampled_from(["status", "message", "content", "usage", "thread_id", "error"]),
        json_values,
    ).map(lambda data: a_response(body=an_envelope(data)).body),
    json_values.map(lambda data: a_response(body=an_envelope(data)).body),
)


class MessageStreamProperties(MachineProperties):
    responses = responses(answers)
    chunks = st.one_of(
        answers,
        st.builds(
            sse,
            st.sampled_from(["message:started", "message:token", "message:completed", "x"]),
            json_values,
            id=st.one_of(st.none(), st.sampled_from(["1", "2"])),
        ),
        st.binary(min_size=1, max_size=20),
    )

    def make(self) -> Stepper:
        return unsent()

    def check(self) -> None:
        """At most four attempts each way, and no end without an end of the message."""
        posts = [request for request in self.stepper.sent if is_post(request)]
        assert len(posts) <= 8
        if isinstance(self.stepper.action, Done):
            assert self.stepper.ended_by in MESSAGE_TERMINAL
        assert not isinstance(self.stepper.action, Fail) or self.stepper.ended_by is None
        assert not isinstance(self.stepper.action, Emit) or self.stepper.action.items[0]["type"]


TestMessageStreamProperties = collected(MessageStreamProperties)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"status": "cancelled"}, "the answer was cancelled"),
        ({"status": "timeout"}, "the answer timed out"),
        ({"status": "failed"}, None),
        ({"status": "Error"}, None),
        ({"status": "error", "error": "why"}, "why"),
        ({"status": "accepted", "error": "why"}, "why"),
        ({"error": "why"}, "why"),
    ],
)
def test_a_reply_with_an_error_instead_of_an_answer_is_an_error(
    reply: Dict[str, Any], error: Any
) -> None:
    message = answered({"message_id": "m", "message": None, **reply})
    message.takes_all()
    assert kinds(message) == ["message:started", "message:failed"]
    assert message.items[-1]["error"] == error


def test_an_answer_with_an_unknown_status_is_emitted() -> None:
    message = answered({"message_id": "m", "status": "ok", "content": "Hello", "error": {}})
    message.takes_all()
    assert kinds(message) == ["message:started", "message:token", "message:completed"]
