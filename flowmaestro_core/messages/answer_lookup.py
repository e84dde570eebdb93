"""Looking for the agent's answer among the messages of a thread."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, Callable, List, Optional, Union

from flowmaestro_core.actions import Action, Done, Fail
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.calls.pages import MAX_PER_PAGE, PageCursor
from flowmaestro_core.context import Context
from flowmaestro_core.executions.wait import ONCE
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.payloads.json_values import JsonObject, object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import RateLimit, Reply


def answer_in(messages: List[Any], message_id: str) -> Optional[JsonObject]:
    """The agent's whole answer, or `None` if the messages do not tell it for certain.

    `message_id` is what the server called the message when it took it: the id of the answer to
    come, or of the question. An answer follows its question in time, before the next one.
    """
    rows = [object_or_empty(message) for message in messages]
    ours = next((row for row in rows if row.get("id") == message_id), None)
    if ours is None:
        return None
    if ours.get("role") != "user":
        return ours if _is_whole(ours) else None
    times = [text_or_empty(row.get("created_at")) for row in rows]
    if not all(times):
        return None
    rows.sort(key=lambda row: str(row["created_at"]))
    later = rows[next(at for at, row in enumerate(rows) if row is ours) + 1 :]
    turn = list(takewhile(lambda row: row.get("role") != "user", later))
    answer = turn[-1] if turn else ours
    return answer if _is_whole(answer) else None


class LookupCursor:
    """Where in a thread's pages an answer is looked for: what one search tells the next.

    A thread is read whole but once. Which of its pages are the newest is seen from the times on
    them, and where that cannot be seen, all are read again.

    Attributes:
        page: where to begin. The message is there, or newer ones will be.
        found: whether the message has been found.
        newest_first: whether later pages are older ones; `None` while that is not known.
        seen_until: the time of the newest message that a whole search has seen.

    """

    def __init__(self) -> None:
        self.page = 1
        self.found = False
        self.newest_first: Optional[bool] = None
        self.seen_until = ""


def _times(rows: List[Any]) -> List[str]:
    return [text_or_empty(object_or_empty(row).get("created_at")) for row in rows]


def _is_whole(row: JsonObject) -> bool:
    written = row.get("status") in (None, "completed") and not row.get("tool_calls")
    return written and row.get("role") == "assistant" and bool(text_or_empty(row.get("content")))


class AnswerLookup(Machine[Optional[JsonObject]]):
    """Reads the messages of a thread, page after page, and ends with the answer or `None`.

    `page` builds the call for one page of `MAX_PER_PAGE` rows. Nothing is asked twice here: who
    owns this asks again later anyway, with the same `place`, and about one page is read then.
    `rate_limit` is what the last reply said of the key.
    """

    TRANSITIONS = {
        "ready": {"start": ("asking",)},
        "asking": {
            "response_received": ("asking", "done", "failed"),
            "transport_failed": ("failed",),
        },
    }

    def __init__(
        self,
        page: Callable[[int], Call[Any]],
        message_id: str,
        context: Context,
        token: str,
        place: Optional[LookupCursor] = None,
    ) -> None:
        super().__init__()
        self._page = page
        self._message_id = message_id
        self._context = context
        self._token = token
        self._place = place or LookupCursor()
        self._cursor = PageCursor(MAX_PER_PAGE)
        self._cursor.page = self._place.page
        self._ours: Optional[JsonObject] = None
        self._rows: List[Any] = []
        self._newest = ""
        self._reached = 1
        self.rate_limit = RateLimit()

    @event
    def start(self, now: float, jitter: float) -> Action:
        return self._ask(now, jitter)

    def _ask(self, now: float, jitter: float) -> Action:
        self.state = "asking"
        call = self._page(self._cursor.page)
        return self._delegate(
            CallMachine(call, self._context, self._token, policy=ONCE), now, jitter
        )

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            return self._fail(outcome.error)
        page: Reply[List[Any]] = outcome.value
        self.rate_limit = page.rate_limit
        self._note(page["data"], self._cursor.page)
        if self._cursor.advance(page) and not self._is_enough(page["data"]):
            return self._ask(now, jitter)
        self._place.seen_until = max(_times(self._rows), default="")
        return self._done(answer_in(self._rows, self._message_id))

    def _note(self, rows: List[Any], number: int) -> None:
        """Take in a page, and note where the next search begins."""
        self._rows += rows
        place, newest = self._place, max(_times(rows), default="")
        if newest and self._newest:
            place.newest_first = newest < self._newest
        self._newest = newest or self._newest
        if self._ours is None:
            messages = map(object_or_empty, rows)
            self._ours = next((row for row in messages if row.get("id") == self._message_id), None)
            place.found = place.found or self._ours is not None
            if rows:
                self._reached = number
        place.page = self._reached if place.newest_first is False else 1

    def _is_enough(self, rows: List[Any]) -> bool:
        """Whether the pages behind this one cannot tell more."""
        newest_first = self._place.newest_first is True
        if self._ours is None:
            seen = "" < min(_times(rows), default="") <= self._place.seen_until
            return newest_first and seen and not self._place.found
        return newest_first or self._ours.get("role") != "user"
