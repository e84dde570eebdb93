"""Looking for the agent's answer among the messages of a thread."""

from __future__ import annotations

from itertools import takewhile
from typing import Any, Callable, List, Optional, Union

from flowmaestro_core.actions import Action, Done, Fail
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.calls.pages import MAX_PER_PAGE, PageCursor
from flowmaestro_core.context import Context
from flowmaestro_core.machine import Machine
from flowmaestro_core.payloads.json_values import JsonObject, object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import Reply
from flowmaestro_core.policy.retry import ONCE


def answer_in(messages: List[Any], message_id: str) -> Optional[JsonObject]:
    """The agent's whole answer, or `None` if the messages do not show it for certain.

    `message_id` is the id in the reply to the POST: that of the answer to come, or of the question.
    An answer is later than its question, and earlier than the next one.
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


def _is_whole(row: JsonObject) -> bool:
    written = row.get("status") in (None, "completed") and not row.get("tool_calls")
    return written and row.get("role") == "assistant" and bool(text_or_empty(row.get("content")))


class AnswerLookup(Machine[Reply[Any]]):
    """Reads the messages of a thread, page after page, up to the time `until`.

    It ends with the last page, whose `data` is then the answer or `None`. `page` builds the call
    for one page of `MAX_PER_PAGE` rows. There are no retries, because the owner polls again.
    """

    TRANSITIONS = {
        "ready": {"start": ("reading",)},
        "reading": {
            "response_received": ("reading", "done", "failed"),
            "transport_failed": ("failed",),
        },
    }

    def __init__(
        self,
        page: Callable[[int], Call[Any]],
        message_id: str,
        context: Context,
        token: str,
        until: Optional[float] = None,
    ) -> None:
        super().__init__(context, token)
        self._page = page
        self._message_id = message_id
        self._until = until
        self._cursor = PageCursor(MAX_PER_PAGE)
        self._rows: List[Any] = []

    def _next(self, now: float, jitter: float) -> Action:
        self.state = "reading"
        call = self._page(self._cursor.page)
        machine = CallMachine(call, self._context, self._token, policy=ONCE, deadline=self._until)
        return self._delegate(machine, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            return self._fail(outcome.error)
        page: Reply[Any] = outcome.value
        self._rows += page["data"]
        if self._cursor.advance(page) and not self._is_told():
            return self._next(now, jitter)
        page["data"] = answer_in(self._rows, self._message_id)
        return self._done(page)

    def _is_told(self) -> bool:
        """Whether the id is that of the answer, and it has been read."""
        rows = map(object_or_empty, self._rows)
        ours = [row.get("role") for row in rows if row.get("id") == self._message_id]
        return bool(ours) and ours[0] not in (None, "user")
