"""Looking for the agent's answer among the messages of a thread."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import pytest
from stepping import (
    Possibilities,
    Stepper,
    a_context,
    a_response,
    an_envelope,
    assert_table_is_true,
    wander,
)

from flowmaestro_core.actions import Send
from flowmaestro_core.errors import ConnectionError, ServerError
from flowmaestro_core.messages.answer_lookup import AnswerLookup, LookupCursor, answer_in
from flowmaestro_core.resources.threads import Threads

CALLS = Threads.send_message_stream("th_1", "Hi")


def row(id: str, role: str, at: int, content: Any = "text", **more: Any) -> Dict[str, Any]:
    return {"id": id, "role": role, "content": content, "created_at": f"t{at}", **more}


QUESTION = row("q", "user", 3)
ANSWER = row("a", "assistant", 5, "Hello")
EARLIER = [row("q0", "user", 1), row("a0", "assistant", 2)]
LATER = [row("q2", "user", 6), row("a2", "assistant", 7)]


def searching(message_id: str = "a", place: Optional[LookupCursor] = None) -> Stepper:
    return Stepper(AnswerLookup(CALLS.messages, message_id, a_context(), "token", place))


class Thread:
    """A long thread on a server that pages through it in one of the ways that there are."""

    def __init__(self, order: str, *, per_page: int = 100, timed: bool = True) -> None:
        self.order = order
        self.per_page = per_page
        self.timed = timed
        self.rows: List[Dict[str, Any]] = []
        for at in range(0, 4900, 2):
            self.add(f"q{at}", "user")
            self.add(f"a{at}", "assistant")

    def add(self, id: str, role: str) -> None:
        at = len(self.rows)
        self.rows.append(row(id, role, 10_000 + at, f"text {at}"))

    def page(self, number: int) -> Any:
        step = self.per_page
        at = (number - 1) * step
        rows = self.rows if self.order == "oldest first" else self.rows[::-1]
        shown = rows[at : at + step]
        if self.order == "newest page first":
            shown = shown[::-1]
        if not self.timed:
            shown = [{**message, "created_at": None} for message in shown]
        return an_envelope(shown, pagination={"has_next": at + step < len(rows)})

    def searched(self, message_id: str, place: LookupCursor) -> Tuple[Any, int]:
        """What a search finds, and in how many requests."""
        search = searching(message_id, place)
        search.start()
        while isinstance(search.action, Send):
            number = int(search.sent[-1].url.partition("page=")[2].partition("&")[0])
            search.replies(200, self.page(number))
        found = search.value
        return found and found["content"], len(search.sent)


@pytest.mark.parametrize("message_id", ["a", "q"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_id_may_be_the_answers_or_the_questions(message_id: str, turned: bool) -> None:
    rows = [*EARLIER, QUESTION, row("x", "tool", 4), ANSWER, *LATER]
    assert answer_in(rows[::-1] if turned else rows, message_id) == ANSWER


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [None, 1, {}],
        EARLIER,
        [*EARLIER, QUESTION],
        [*EARLIER, QUESTION, *LATER],
        [QUESTION, row("x", "assistant", 4), row("y", "tool", 5)],
        [QUESTION, row("x", "assistant", 4, tool_calls=[{}])],
        [{**QUESTION, "created_at": None}, row("x", "assistant", 4)],
    ],
)
def test_what_the_messages_do_not_tell_is_not_made_up(rows: Any) -> None:
    assert answer_in(rows, "q") is None
    assert answer_in(rows, "a") is None


@pytest.mark.parametrize(
    "answer",
    [
        row("a", "assistant", 5, ""),
        row("a", "assistant", 5, None),
        row("a", "tool", 5),
        row("a", "assistant", 5, status="processing"),
        row("a", "assistant", 5, tool_calls=[{}]),
    ],
)
def test_an_answer_that_is_not_whole_is_none_yet(answer: Any) -> None:
    assert answer_in([QUESTION, answer], "a") is None
    assert answer_in([QUESTION, answer], "q") is None


def test_every_page_is_read() -> None:
    search = searching()
    search.start()
    assert search.sent[0].url.endswith("/threads/th_1/messages?page=1&per_page=100")
    more = {"X-RateLimit-Remaining": "7"}
    search.replies(200, an_envelope([QUESTION], pagination={"has_next": True}), more)
    assert search.sent[1].url.endswith("/threads/th_1/messages?page=2&per_page=100")
    search.replies(200, an_envelope({"messages": [ANSWER]}), more)
    assert search.value["content"] == "Hello"
    assert search.machine.rate_limit.remaining == 7  # type: ignore[attr-defined]


# Asking again


ORDERS = ["oldest first", "newest first", "newest page first"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ours", ["the answer", "the question"])
def test_a_long_thread_is_read_whole_but_once(order: str, ours: str) -> None:
    thread, place = Thread(order), LookupCursor()
    if ours == "the question":
        thread.add("the question", "user")
    assert thread.searched(ours, place)[0] is None
    for _ in range(3):
        found, requests = thread.searched(ours, place)
        assert found is None
        assert requests <= 2
    thread.add("the answer", "assistant")
    content, requests = thread.searched(ours, place)
    assert content == thread.rows[-1]["content"]
    assert requests <= 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ours", ["the answer", "the question"])
@pytest.mark.parametrize("more", [1, 99, 100, 250])
def test_an_answer_is_found_however_many_messages_came_beside_it(
    order: str, ours: str, more: int
) -> None:
    thread, place = Thread(order), LookupCursor()
    thread.add("the question", "user")
    thread.searched(ours, place)
    thread.add("the answer", "assistant")
    for n in range(more):
        thread.add(f"more {n}", "user")
    assert thread.searched(ours, place)[0] == thread.rows[-1 - more]["content"]


@pytest.mark.parametrize("order", ORDERS)
def test_where_the_order_cannot_be_seen_all_is_read_again(order: str) -> None:
    thread, place = Thread(order, timed=False), LookupCursor()
    assert thread.searched("the answer", place) == (None, 49)
    assert thread.searched("the answer", place) == (None, 49)
    thread.add("the answer", "assistant")
    assert thread.searched("the answer", place)[0] == thread.rows[-1]["content"]


def test_a_search_that_fails_half_way_is_gone_on_with() -> None:
    thread, place = Thread("oldest first"), LookupCursor()
    search = searching("the answer", place)
    search.start()
    for number in range(1, 11):
        search.replies(200, thread.page(number))
    search.fails()
    thread.add("the answer", "assistant")
    content, requests = thread.searched("the answer", place)
    assert content == thread.rows[-1]["content"]
    assert requests == 41


def test_an_empty_last_page_is_not_where_to_begin() -> None:
    place = LookupCursor()
    search = searching("a", place)
    search.start()
    search.replies(200, an_envelope([QUESTION], pagination={"has_next": True}))
    search.replies(200, an_envelope([{**ANSWER, "id": "b"}], pagination={"has_next": True}))
    search.replies(200, an_envelope([]))
    assert place.page == 2


def test_nothing_is_asked_twice() -> None:
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
    taken = wander(searching, Possibilities(replies), walks=200)
    assert_table_is_true(AnswerLookup, taken)
