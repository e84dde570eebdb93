"""Looking for the agent's answer among the messages of a thread."""

from __future__ import annotations

import math
from typing import Any, Dict

import pytest

from flowmaestro_core.errors import ConnectionError, ServerError
from flowmaestro_core.messages.answer_lookup import AnswerLookup
from flowmaestro_core.resources.threads import Threads
from tests.harness.core.stepping import (
    Possibilities,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    assert_table_is_true,
    wander,
)

CALLS = Threads.send_message_stream("th_1", "Hi")


def row(id: str, role: str, at: int, content: Any = "text", **more: Any) -> Dict[str, Any]:
    return {"id": id, "role": role, "content": content, "created_at": f"t{at}", **more}


QUESTION = row("q", "user", 3)
ANSWER = row("a", "assistant", 5, "Hello")
EARLIER = [row("q0", "user", 1), row("a0", "assistant", 2)]
LATER = [row("q2", "user", 6), row("a2", "assistant", 7)]


def searching() -> Stepper:
    return Stepper(AnswerLookup(CALLS.messages, "a", a_context(), "token", math.inf))


def found_in(*rows: Any) -> Any:
    search = searching()
    search.start()
    search.replies(200, an_envelope(rows))
    return search.value["data"]


def test_the_answer_is_found_by_its_id() -> None:
    found = found_in(*EARLIER, QUESTION, row("x", "tool", 4), ANSWER, *LATER)
    assert found["content"] == "Hello"


@pytest.mark.parametrize("rows", [[], [None, 1, {}], [*EARLIER, QUESTION, *LATER]])
def test_messages_without_the_answer_yield_none(rows: Any) -> None:
    assert found_in(*rows) is None


@pytest.mark.parametrize(
    "answer",
    [
        row("a", "assistant", 5, ""),
        row("a", "assistant", 5, None),
        row("a", "tool", 5),
        row("a", "user", 5),
        row("a", "assistant", 5, status="processing"),
        row("a", "assistant", 5, tool_calls=[{}]),
    ],
)
def test_an_incomplete_answer_is_not_found(answer: Any) -> None:
    assert found_in(QUESTION, answer) is None


def test_every_page_is_read() -> None:
    search = searching()
    search.start()
    assert search.sent[0].url.endswith("/threads/th_1/messages?page=1&per_page=100")
    more = {"X-RateLimit-Remaining": "7"}
    search.replies(200, an_envelope([QUESTION], pagination={"has_next": True}), more)
    assert search.sent[1].url.endswith("/threads/th_1/messages?page=2&per_page=100")
    search.replies(200, an_envelope({"messages": [ANSWER]}), more)
    assert search.value["data"]["content"] == "Hello"
    assert search.value.rate_limit.remaining == 7


def test_no_page_is_read_after_the_answer() -> None:
    search = searching()
    search.start()
    search.replies(200, an_envelope([ANSWER], pagination={"has_next": True}))
    assert search.value["data"]["content"] == "Hello"


def test_a_failed_lookup_is_not_retried() -> None:
    search = searching()
    search.start()
    search.fails()
    assert isinstance(search.error, ConnectionError)
    search = searching()
    search.start()
    search.replies(503)
    assert isinstance(search.error, ServerError)


def test_the_table_is_true() -> None:
    replies = (
        a_response(200, an_envelope([QUESTION], pagination={"has_next": True})),
        a_response(200, an_envelope([ANSWER])),
        a_response(500),
    )
    assert_table_is_true(AnswerLookup, wander(searching, Possibilities(replies), walks=200))
