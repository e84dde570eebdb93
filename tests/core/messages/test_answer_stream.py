"""Following one answer: what is lost on the way is learned, and nothing is made up."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest

from flowmaestro_core.actions import Close, Fail, Read, Send
from flowmaestro_core.errors import StreamError, TimeoutError
from flowmaestro_core.http.messages import Response
from tests.harness.core.answers import (
    NOT_YET,
    STARTED,
    WRITTEN,
    completed,
    early,
    event,
    finishes,
    late,
    own,
    token,
    told,
)
from tests.harness.core.followed import reconnected
from tests.harness.core.stepping import (
    KEEPALIVE,
    Report,
    Stepper,
    a_response,
    an_envelope,
    an_error,
    sse,
)

# Gaps


def test_what_was_said_before_a_late_subscription_comes_with_the_end() -> None:
    stream = late()
    assert stream.receives(sse("connected") + token("lo ") + token("you"))
    stream.takes_all()
    stream.receives(completed())
    finishes(stream, "connected", "Hello you", "message:completed")


def test_a_late_subscription_that_missed_nothing_is_read_as_it_comes() -> None:
    stream = late()
    stream.receives(STARTED + token("Hello "))
    stream.takes_all()
    assert told(stream) == ["message:started", "Hello "]
    stream.receives(token("you") + completed())
    stream.takes_all()
    finishes(stream, "message:started", "Hello ", "you", "message:completed")


@pytest.mark.parametrize("content", [None, 7])
def test_an_end_without_the_text_that_was_missed_has_it_looked_up(content: Any) -> None:
    stream = late()
    assert stream.receives(token("lo ") + token("you") + completed(content)) == Close()
    stream.closes()
    stream.replies(200, WRITTEN)
    finishes(stream, "Hello you", "message:completed")


def test_a_stream_that_has_told_its_end_is_not_opened_again() -> None:
    stream = late()
    stream.receives(token("lo you") + completed(None))
    stream.closes()
    while not isinstance(stream.action, Fail):
        stream.replies(200, NOT_YET) if isinstance(stream.action, Send) else stream.waits()
    assert isinstance(stream.error, StreamError)
    assert stream.error.code == "stream_lost"


def test_a_text_that_was_missed_and_cannot_be_looked_up_is_an_error() -> None:
    stream = late()
    stream.receives(token("lo you") + completed(None))
    stream.closes()
    stream.replies(403)
    assert isinstance(stream.error, StreamError)
    assert stream.error.code == "stream_lost"


def test_so_is_one_of_an_answer_without_an_id() -> None:
    stream = late({"thread_id": "th_1", "status": "processing"})
    assert stream.receives(token("lo you") + completed(None)) == Close()
    stream.closes()
    assert isinstance(stream.error, StreamError)


def test_a_refusal_of_the_messages_is_asked_for_once() -> None:
    stream = own()
    stream.receives(STARTED)
    stream.takes_all()
    stream.stays_quiet()
    assert isinstance(stream.action, Send)
    stream.replies(403)
    stream.receives(token("Hello"))
    reading = stream.takes_all()
    assert isinstance(reading, Read)
    assert reading.patience > 60.0


def test_an_end_without_its_text_is_believed_where_all_was_heard() -> None:
    stream = own()
    stream.receives(STARTED + token("Hello you") + completed(None))
    stream.takes_all()
    finishes(stream, "message:started", "Hello you", "message:completed")


def test_what_was_said_while_the_connection_was_lost_comes_with_the_end() -> None:
    stream = early()
    stream.receives(token("He"))
    stream.takes_all()
    reconnected(stream)
    stream.receives(STARTED + token("you") + completed())
    stream.takes_all()
    started, gap = "message:started", "stream:reconnected"
    finishes(stream, started, "He", gap, started, "llo you", "message:completed")


def test_ids_that_no_header_field_can_bear_do_not_fill_a_gap() -> None:
    stream = early()
    stream.receives(token("He", id="é"))
    stream.takes_all()
    reconnected(stream)
    stream.receives(token("you") + completed())
    finishes(stream, "message:started", "He", "stream:reconnected", "llo you", "message:completed")


def test_a_stream_resumed_by_its_ids_has_no_gap() -> None:
    stream = early()
    stream.receives(token("He", id="1"))
    stream.takes_all()
    reconnected(stream)
    stream.receives(token("llo", id="2"))
    stream.takes_all()
    assert told(stream)[-1] == "llo"


def test_what_a_late_subscription_missed_is_missed_though_it_was_resumed() -> None:
    stream = late()
    stream.receives(event("connected", id="1"))
    stream.takes_all()
    reconnected(stream)
    stream.receives(token("you", id="2") + completed())
    finishes(stream, "message:connected", "stream:reconnected", "Hello you", "message:completed")


def test_a_text_that_was_told_wholly_is_not_told_again() -> None:
    stream = early()
    stream.receives(token("Hello you"))
    stream.takes_all()
    reconnected(stream)
    stream.receives(token("you") + completed())
    finishes(stream, "message:started", "Hello you", "stream:reconnected", "message:completed")


def test_a_text_that_was_told_otherwise_cannot_be_taken_back() -> None:
    stream = early()
    stream.receives(token("Bye"))
    stream.takes_all()
    stream.stays_quiet()
    stream.replies(200, WRITTEN)
    finishes(stream, "message:started", "Bye", "message:completed")
    assert stream.items[-1]["content"] == "Hello you"


# Other messages of the thread


def test_the_rest_of_a_text_that_only_the_end_tells_is_told_as_a_token_too() -> None:
    stream = own()
    stream.receives(STARTED + token("He") + completed())
    finishes(stream, "message:started", "He", "llo you", "message:completed")


def test_a_text_that_only_the_end_tells_is_told_as_a_token_too() -> None:
    stream = own()
    stream.receives(STARTED + completed())
    finishes(stream, "message:started", "Hello you", "message:completed")


def test_events_of_other_messages_are_left_out() -> None:
    stream = early()
    stream.receives(token("no", "other") + completed("no", "other") + token("Hello you"))
    stream.takes_all()
    stream.receives(completed())
    finishes(stream, "message:started", "Hello you", "message:completed")


def test_where_the_ids_do_not_tell_every_event_is_taken() -> None:
    stream = late({"status": "pending"})
    stream.receives(sse("message:started") + token("Hello you", "x") + completed())
    stream.takes_all()
    finishes(stream, "message:started", "Hello you", "message:completed")


# Silence


def test_a_silent_subscription_is_doubted_ever_less_often() -> None:
    stream = late()
    asked: List[float] = []
    begun = stream.now
    for _ in range(4):
        while not isinstance(stream.action, Send):
            stream.stays_quiet() if stream.now < begun + 60 else stream.receives(KEEPALIVE)
        asked.append(round(stream.now - begun, 3))
        stream.replies(200, NOT_YET)
    assert asked == [5, 12.5, 23.75, 40.625]
    while not isinstance(stream.action, Send):
        stream.stays_quiet()
    stream.replies(200, WRITTEN)
    finishes(stream, "Hello you", "message:completed")
    assert stream.items[-1]["usage"]["total_tokens"] is None
    assert stream.items[-1]["thread_id"] == "th_1"


def test_an_event_ends_the_doubts() -> None:
    stream = early()
    assert stream.action == Read(5.0)
    stream.receives(token("Hello"), after=4.0)
    assert stream.takes(after=100.0) == Read(5.0)


def test_an_agent_of_which_nothing_is_heard_is_given_up() -> None:
    stream = late({"status": "pending"})
    for _ in range(4):
        stream.receives(KEEPALIVE, after=30.0)
    assert stream.action == Read(10.0)
    assert stream.stays_quiet() == Close()
    stream.closes()
    assert isinstance(stream.error, TimeoutError)


def test_a_question_that_is_refused_for_now_is_asked_later() -> None:
    stream = late()
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
@pytest.mark.parametrize("begun", [own, late])
def test_an_open_stream_outlives_a_question_that_is_refused(
    begun: Callable[[], Stepper], refusal: Response
) -> None:
    stream = begun()
    stream.receives(STARTED)
    stream.takes()
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


@pytest.mark.parametrize("status", [403, 404])
def test_a_question_that_is_refused_for_good_is_not_asked_again(status: int) -> None:
    stream = late()
    stream.stays_quiet()
    stream.replies(status)
    assert stream.receives(KEEPALIVE, after=85.0) == Read(40.0)
    stream.receives(STARTED)
    assert stream.takes() == Read(90.0)


def test_an_agent_of_which_nothing_is_heard_is_given_up_though_nothing_could_be_asked() -> None:
    stream = late()
    stream.stays_quiet()
    stream.replies(403)
    stream.receives(KEEPALIVE, after=80.0)
    stream.stays_quiet()
    stream.closes()
    assert isinstance(stream.error, TimeoutError)


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
def test_what_was_said_before_a_pause_is_not_the_answer(row: Dict[str, Any]) -> None:
    stream = paused(**row)
    assert isinstance(stream.action, Read)
    stream.receives(token("Shipped.") + completed("Let me look. Shipped."), after=3.0)
    stream.takes_all()
    finishes(stream, "message:started", "Let me look. ", "Shipped.", "message:completed")


def test_a_row_that_says_itself_that_it_is_whole_is_believed() -> None:
    finishes(paused(status="completed"), "message:started", "Let me look. ", "message:completed")
