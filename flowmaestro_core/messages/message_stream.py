"""Sending a message and following the answer, whichever of three ways the server has.

1. The POST itself answers with an event stream.
2. It answers with JSON, and the events are on the thread's own stream, which is opened then.
3. It answers 501: nothing was sent. The message is then sent without streaming, and the events
   are made from the answer, or followed as in 2 if the answer is still to come.

The message is never sent twice.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Union, cast

from flowmaestro_core.actions import Action, Done, Fail
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import ServerError
from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.messages.answer_stream import (
    AnswerStreamMachine,
    completed_event,
    ids_of,
    token_event,
)
from flowmaestro_core.messages.operation import MessageStream
from flowmaestro_core.payloads.json_values import JsonObject, text_or_empty
from flowmaestro_core.payloads.reply import Reply, shown_request_id
from flowmaestro_core.types import MessageCompleted

ANSWER_TO_COME = frozenset({"pending", "processing", "queued", "running", "in_progress"})
"""The statuses of a reply to a POST that say that the agent has not finished."""
WITHOUT_ANSWER: Dict[str, Optional[str]] = {
    "failed": None,
    "error": None,
    "cancelled": "the answer was cancelled",
    "timeout": "the answer timed out",
}
"""Those that say that there will be none, and what is said of it where the reply does not."""


class MessageStreamMachine(Machine[None]):
    """Sends the message once and emits events up to `message:completed` or `message:failed`."""

    TRANSITIONS = {
        "ready": {"start": ("sending",)},
        "sending": {
            "stream_opened": ("sending", "following"),
            "bytes_received": ("sending",),
            "stream_quiet": ("sending",),
            "stream_ended": ("sending", "sending whole", "following", "failed"),
            "stream_closed": ("sending", "sending whole", "failed"),
            "transport_failed": ("sending", "sending whole", "failed"),
            "waited": ("sending",),
        },
        "sending whole": {
            "response_received": ("sending whole", "following", "failed"),
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
            "response_received": ("following", "failed"),
            "waited": ("following", "failed"),
            "emitted": ("following", "done"),
        },
    }

    def __init__(self, stream: MessageStream, context: Context, token: str) -> None:
        super().__init__(context, token)
        self._stream = stream
        self._following: Optional[AnswerStreamMachine] = None
        self.request_id: Optional[str] = None

    @property
    def last_event_id(self) -> str:
        """As `EventStreamMachine.last_event_id`."""
        return self._following.last_event_id if self._following else ""

    @property
    def reconnects(self) -> int:
        """As `EventStreamMachine.reconnects`."""
        return self._following.reconnects if self._following else 0

    @property
    def message(self) -> Optional[MessageCompleted]:
        """The `message:completed` event once it was emitted; `None` before."""
        return cast("Any", self._following.message) if self._following else None

    @property
    def finished(self) -> bool:
        """Whether the answer's last event has been emitted."""
        return self._following is not None and self._following.finished

    @event
    def start(self, now: float, jitter: float) -> Action:
        self.state = "sending"
        call = CallMachine(self._stream.streaming, self._context, self._token, stream=True)
        return self._delegate(call, now, jitter)

    def _send_whole(self, now: float, jitter: float) -> Action:
        self.state = "sending whole"
        # Another body than the refused one's, so another idempotency key.
        call = CallMachine(self._stream.whole, self._context, self._token + "-whole")
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            if self.state == "sending" and _not_offered(outcome.error):
                return self._send_whole(now, jitter)
            return self._fail(outcome.error)
        if self.state == "following":
            return self._done(None)
        if isinstance(outcome.value, ResponseHead):
            self.request_id = shown_request_id(None, outcome.value.headers, self._context.scrubber)
            return self._follow(now, jitter)
        return self._answered(outcome.value, now, jitter)

    def _answered(self, reply: Reply[Any], now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(reply, reply.headers, self._context.scrubber)
        answer: JsonObject = reply["data"]
        events = [] if _is_to_come(answer) else _events_of(answer)
        return self._follow(now, jitter, answer=answer, events=events)

    def _follow(self, now: float, jitter: float, **known: Any) -> Action:
        self.state = "following"
        self._following = AnswerStreamMachine(self._stream, self._context, self._token, **known)
        return self._delegate(self._following, now, jitter)


def _not_offered(error: Exception) -> bool:
    """Whether the server refused to stream before anything was sent."""
    return isinstance(error, ServerError) and error.status_code == 501


def _status_of(answer: JsonObject) -> str:
    return text_or_empty(answer.get("status")).lower()


def _has_failed(answer: JsonObject) -> bool:
    says_why = bool(answer.get("error")) and not answer.get("content")
    return says_why or _status_of(answer) in WITHOUT_ANSWER


def _is_to_come(answer: JsonObject) -> bool:
    """Whether the answer is still to come: a reply without one, of a status that ends nothing."""
    status = _status_of(answer)
    if status in ANSWER_TO_COME:
        return True
    ended = status in ("", "completed") or _has_failed(answer)
    return not ended and not answer.get("content") and answer.get("message_id") is not None


def _events_of(answer: JsonObject) -> list[JsonObject]:
    """The events that a whole answer stands for."""
    ids, content = ids_of(answer), answer.get("content")
    events: list[JsonObject] = [{"type": "message:started", **ids}]
    if _has_failed(answer):
        error = answer.get("error")
        if error is None:
            error = WITHOUT_ANSWER[_status_of(answer)]
        return [*events, {"type": "message:failed", **ids, "error": error}]
    if isinstance(content, str) and content:
        events.append(token_event(ids, content))
    return [*events, completed_event(ids, content, answer.get("usage"))]
