"""The search for the agent's answer among the messages of a thread."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Union

from flowmaestro_core.actions import Action, Done, Fail
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.calls.pages import MAX_PER_PAGE, PageCursor
from flowmaestro_core.context import Context
from flowmaestro_core.machine import Machine, State, Transitions
from flowmaestro_core.payloads.json_values import JsonObject, object_or_empty, text_or_empty
from flowmaestro_core.payloads.reply import Reply


class AnswerLookupState(State):
    """The states of `AnswerLookup`."""

    READY = "ready"
    READING = "reading"
    """A page of messages is requested."""
    DONE = "done"
    FAILED = "failed"


_S = AnswerLookupState  # Short, for the table.


class AnswerLookup(Machine[Reply[Any]]):
    """Reads the messages of a thread, page after page, up to the answer. `until` is the deadline.

    It ends with the reply of the last page that it read. The `data` of this reply is replaced by
    the message with the id `message_id`; by `None` if there is none, or if it is not a complete
    text of the agent. `page` builds the call for one page of `MAX_PER_PAGE` messages. If a call
    fails, so does the machine. There are no retries, because the owner polls again.
    """

    state: str
    TRANSITIONS: ClassVar[Transitions] = {
        _S.READY: {"start": (_S.READING,)},
        _S.READING: {
            "response_received": (_S.READING, _S.DONE, _S.FAILED),
            "transport_failed": (_S.FAILED,),
        },
    }

    def __init__(
        self,
        page: Callable[[int], Call[Any]],
        message_id: str,
        context: Context,
        token: str,
        until: float,
    ) -> None:
        super().__init__(context, token)
        self._page = page
        self._message_id = message_id
        self._until = until
        self._cursor = PageCursor(MAX_PER_PAGE)
        """The number of the page to read, and whether there is another one."""

    def _next(self, now: float, jitter: float) -> Action:
        self.state = AnswerLookupState.READING
        call = self._page(self._cursor.page)
        machine = CallMachine(call, self._context, self._token, max_retries=0, deadline=self._until)
        return self._delegate(machine, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            return self._fail(outcome.error)
        page: Reply[Any] = outcome.value
        rows = map(object_or_empty, page["data"])
        found = next((row for row in rows if row.get("id") == self._message_id), None)
        if found is None and self._cursor.advance(page):
            return self._next(now, jitter)
        page["data"] = found if _is_whole(found or {}) else None
        return self._done(page)


def _is_whole(row: JsonObject) -> bool:
    written = row.get("status") in (None, "completed") and not row.get("tool_calls")
    return written and row.get("role") == "assistant" and bool(text_or_empty(row.get("content")))
