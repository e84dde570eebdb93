"""Following one answer: what is lost on the way is learned, and nothing is made up."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from flowmaestro_core.actions import Read, Send
from flowmaestro_core.http.messages import Response
from tests.harness.core.answers import (
    NOT_YET,
    STARTED,
    WRITTEN,
    completed,
    finishes,
    own,
    token,
)
from tests.harness.core.stepping import (
    KEEPALIVE,
    Report,
    Stepper,
    a_response,
    an_envelope,
    an_error,
    sse,
)


def begun() -> Stepper:
    """The POST's own stream, which has named the message."""
    stream = own()
    stream.receives(STARTED)
    stream.takes()
    return stream


# The text


def test_connected_of_the_stream_of_the_post_is_emitted() -> None:
    stream = own()
    stream.receives(sse("connected", {"thread_id": "th_1"}) + completed())
    stream.takes()
    finishes(stream, "connected", "Hello you", "message:completed")


@pytest.mark.parametrize(
    ("sent", "texts"),
    [
        (STARTED + token("Hello you") + completed(None), ["Hello you"]),
        (STARTED + token("He") + completed(), ["He", "llo you"]),
        (STARTED + completed(), ["Hello you"]),
    ],
)
def test_text_of_tokens_and_end_is_emitted_once(sent: bytes, texts: List[str]) -> None:
    stream = own()
    stream.receives(sent)
    finishes(stream, "message:started", *texts, "message:completed")


def test_emitted_tokens_that_differ_from_the_answer_stay() -> None:
    stream = begun()
    stream.receives(token("Bye"))
    stream.takes_all()
    stream.stays_quiet()
    stream.replies(200, WRITTEN)
    finishes(stream, "message:started", "Bye", "message:completed")
    assert stream.items[-1]["content"] == "Hello you"


# Silence


def test_a_silent_stream_is_probed_ever_less_often() -> None:
    stream = begun()
    asked: List[float] = []
    since = stream.now
    for _ in range(4):
        while not isinstance(stream.action, Send):
            stream.stays_quiet()
        asked.append(round(stream.now - since, 3))
        stream.replies(200, NOT_YET)
    assert asked == [5, 12.5, 23.75, 40.625]
    while not isinstance(stream.action, Send):
        stream.stays_quiet()
    stream.replies(200, WRITTEN)
    finishes(stream, "message:started", "Hello you", "message:completed")
    assert stream.items[-1]["usage"]["total_tokens"] is None
    assert stream.items[-1]["message_id"] == "m"


def test_a_transiently_refused_probe_is_repeated() -> None:
    stream = begun()
    stream.stays_quiet()
    stream.replies(429, an_error("rate_limit_exceeded"), {"Retry-After": "20"})
    assert stream.action == Read(20.0)
    stream.stays_quiet()
    stream.fails()
    assert isinstance(stream.action, Read)


REFUSALS = (
    a_response(403),
    a_response(404),
    a_response(501),
    a_response(429, an_error("rate_limit_exceeded", window="day")),
    a_response(200, raw=b"<html>"),
    a_response(200, {"data": {"x": 1}}),
)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_an_open_stream_continues_after_a_refused_probe(refusal: Response) -> None:
    stream = begun()
    heard = stream.now
    while stream.now < heard + 40:
        if isinstance(stream.action, Send):
            stream.report(Report("response_received", (refusal,)))
        else:
            assert isinstance(stream.action, Read)
            stream.receives(KEEPALIVE, after=min(stream.action.patience, heard + 40 - stream.now))
    stream.receives(token("Hello you") + completed())
    stream.takes_all()
    finishes(stream, "message:started", "Hello you", "message:completed")


def test_a_permanently_refused_probe_is_not_repeated() -> None:
    stream = begun()
    stream.stays_quiet()
    stream.replies(403)
    assert stream.receives(KEEPALIVE, after=85.0) == Read(40.0)
    stream.receives(STARTED)
    assert stream.takes() == Read(130.0)


# Rows that are still being written


def paused(**row: Any) -> Stepper:
    """The agent uses a tool; what it said before that may be in the messages already."""
    stream = own()
    stream.receives(STARTED + token("Let me look. "))
    stream.takes_all()
    stream.stays_quiet()
    said = {"id": "m", "role": "assistant", "content": "Let me look. ", **row}
    stream.replies(200, an_envelope([said]))
    return stream


@pytest.mark.parametrize("row", [{"tool_calls": [{"name": "track"}]}, {}, {"status": "streaming"}])
def test_text_before_a_pause_is_not_the_answer(row: Dict[str, Any]) -> None:
    stream = paused(**row)
    assert isinstance(stream.action, Read)
    stream.receives(token("Shipped.") + completed("Let me look. Shipped."), after=3.0)
    stream.takes_all()
    finishes(stream, "message:started", "Let me look. ", "Shipped.", "message:completed")


def test_a_message_with_status_completed_is_the_answer() -> None:
    finishes(paused(status="completed"), "message:started", "Let me look. ", "message:completed")
