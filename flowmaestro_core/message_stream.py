"""Sending a message and following the answer, whichever of three ways the server has.

1. The POST itself answers with an event stream.
2. It answers with JSON, and the events are on the thread's own stream.
3. It answers 501: nothing was sent. The message is then sent without streaming, and the events
   are made from the answer.

The message is never sent twice.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, Optional, Union

from flowmaestro_core.actions import Action, Done, Emit, Fail
from flowmaestro_core.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import ServerError
from flowmaestro_core.event_stream import Events, EventStreamMachine
from flowmaestro_core.events import MESSAGE_TERMINAL
from flowmaestro_core.http import ResponseHead
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.streams import AsyncEventStream, EventStream
from flowmaestro_core.types import ThreadEvent


@dataclass(frozen=True)
class MessageStream(Operation[EventStream[ThreadEvent], AsyncEventStream[ThreadEvent]]):
    """One message and the events of its answer.

    `streaming` and `whole` send it, with and without streaming; `events` is the thread's stream.
    """

    streaming: Call[Any]
    whole: Call[Any]
    events: Call[Any]

    def machine(self, context: Context, token: str) -> MessageStreamMachine:
        """A machine that emits the events."""
        return MessageStreamMachine(self, context, token)


class MessageStreamMachine(Machine[Any]):
    """Sends the message once and emits events up to `message:completed` or `message:failed`."""

    TRANSITIONS = {
        "ready": {"start": ("sending",)},
        "sending": {
            "stream_opened": ("sending", "following"),
            "bytes_received": ("sending",),
            "stream_quiet": ("sending",),
            "stream_ended": ("sending", "sending whole", "following", "emitting", "failed"),
            "stream_closed": ("sending", "sending whole", "failed"),
            "transport_failed": ("sending", "sending whole", "failed"),
            "waited": ("sending",),
        },
        "sending whole": {
            "response_received": ("sending whole", "emitting", "failed"),
            "transport_failed": ("sending whole", "failed"),
            "waited": ("sending whole",),
        },
        "following": {
            "stream_opened": ("following",),
            "bytes_received": ("following",),
            "stream_quiet": ("following",),
            "stream_ended": ("following", "failed"),
            "stream_closed": ("following", "failed"),
            "transport_failed": ("following", "failed"),
            "waited": ("following",),
            "emitted": ("following", "done"),
        },
        "emitting": {"emitted": ("emitting", "done")},
    }

    def __init__(self, stream: MessageStream, context: Context, token: str) -> None:
        super().__init__()
        self._stream = stream
        self._context = context
        self._token = token
        self._queue: Deque[Dict[str, Any]] = deque()
        self._following: Optional[EventStreamMachine] = None

    @property
    def last_event_id(self) -> str:
        """As `EventStreamMachine.last_event_id`."""
        return self._following.last_event_id if self._following else ""

    @property
    def reconnects(self) -> int:
        """As `EventStreamMachine.reconnects`."""
        return self._following.reconnects if self._following else 0

    request_id: Optional[str] = None

    @event
    def start(self, now: float, jitter: float) -> Action:
        self.state = "sending"
        call = CallMachine(self._stream.streaming, self._context, self._token, stream=True)
        return self._delegate(call, now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        return self._next()

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            if self.state == "sending" and _not_offered(outcome.error):
                self.state = "sending whole"
                # Another body than the refused one's, so another idempotency key.
                call = CallMachine(self._stream.whole, self._context, self._token + "-whole")
                return self._delegate(call, now, jitter)
            return self._fail(outcome.error)
        if self.state == "following":
            return self._done(outcome.value)
        if isinstance(outcome.value, ResponseHead):
            self.request_id = outcome.value.headers.get("x-request-id")
            answer_stream: Events[Any] = Events(
                self._stream.streaming, MESSAGE_TERMINAL, resumable=False
            )
            return self._follow(answer_stream, now, jitter, opened=True)
        self.request_id = outcome.value.request_id
        answer: Dict[str, Any] = outcome.value["data"]
        if self.state == "sending" and answer.get("status") in ("pending", "processing"):
            return self._follow(Events(self._stream.events, MESSAGE_TERMINAL), now, jitter)
        self._queue.extend(_events_of(answer))
        return self._next()

    def _follow(
        self, events: Events[Any], now: float, jitter: float, *, opened: bool = False
    ) -> Action:
        self.state = "following"
        self._following = EventStreamMachine(events, self._context, self._token, opened=opened)
        return self._delegate(self._following, now, jitter)

    def _next(self) -> Action:
        if not self._queue:
            return self._done(None)
        self.state = "emitting"
        return Emit(self._queue.popleft())


def _not_offered(error: Exception) -> bool:
    """Whether the server refused to stream before anything was sent."""
    return isinstance(error, ServerError) and error.status_code == 501


def _events_of(answer: Dict[str, Any]) -> list[Dict[str, Any]]:
    """The events that a whole answer stands for."""
    ids: Dict[str, Any] = {
        key: answer[key] for key in ("thread_id", "message_id", "execution_id") if key in answer
    }
    content = answer.get("content")
    events: list[Dict[str, Any]] = [{"type": "message:started", **ids}]
    if answer.get("status") == "failed":
        return [*events, {"type": "message:failed", **ids, "error": answer.get("error")}]
    if isinstance(content, str) and content:
        events.append({"type": "message:token", **ids, "token": content})
    completed = {"type": "message:completed", **ids, "content": content}
    return [*events, {**completed, "usage": answer.get("usage")}]
