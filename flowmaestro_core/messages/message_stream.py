"""Sending a message and following the answer, whichever of three ways the server has.

1. The POST itself answers with an event stream.
2. It answers with JSON, and the events are on the thread's own stream. A server that is known to
   do so is listened to before the message is sent, so that nothing is said before that.
3. It answers 501: nothing was sent. The message is then sent without streaming, and the events
   are made from the answer, or followed as in 2 where the answer is still to come.

The message is never sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Dict, Optional, Union, cast

from flowmaestro_core.actions import Action, Done, Fail, Wait
from flowmaestro_core.calls.call import EVENT_STREAM, Call, CallMachine, media_type
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    AuthenticationError,
    FlowMaestroError,
    ServerError,
    StreamError,
)
from flowmaestro_core.executions.wait import ONCE
from flowmaestro_core.http.messages import Response, ResponseHead
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.messages.answer_stream import (
    AnswerStreamMachine,
    MessageCalls,
    completed_event,
    ids_of,
    token_event,
)
from flowmaestro_core.operation import Operation
from flowmaestro_core.payloads.json_values import JsonObject, text_or_empty
from flowmaestro_core.payloads.reply import Reply, shown_request_id
from flowmaestro_core.streams.events import MESSAGE_TERMINAL, event_from_sse
from flowmaestro_core.streams.handles import AsyncMessageEventStream, MessageEventStream
from flowmaestro_core.streams.sse import SseDecoder
from flowmaestro_core.types import MessageCompleted

ANSWER_TO_COME = frozenset({"pending", "processing", "queued", "running", "in_progress"})
"""The statuses of a reply to a POST that say that the agent is still at it."""
WITHOUT_ANSWER: Dict[str, Optional[str]] = {
    "failed": None,
    "error": None,
    "cancelled": "the answer was cancelled",
    "timeout": "the answer timed out",
}
"""Those that say that there will be none, and what is said of it where the reply does not."""
SUBSCRIBING = 5.0
"""Seconds that a subscription may take before the message is sent without it."""


@dataclass(frozen=True)
class StreamingPost(Call[Reply[Any]]):
    """Sends a message; sent beside a subscription, it may be answered with events all the same.

    They are then `data["events"]`, all of them at once.
    """

    def reply(self, response: Response, attempts: int = 1) -> Reply[Any]:
        """As `Call.reply`."""
        if media_type(response.headers) != EVENT_STREAM:
            return super().reply(response, attempts)
        decoded = SseDecoder().feed(response.body)
        reply: Reply[Any] = Reply(data={"events": list(map(event_from_sse, decoded))})
        reply.status_code, reply.headers = response.status, response.headers
        reply.attempts = attempts
        return reply


@dataclass(frozen=True)
class MessageStream(MessageCalls, Operation[MessageEventStream, AsyncMessageEventStream]):
    """One message and the events of its answer."""

    def machine(self, context: Context, token: str) -> MessageStreamMachine:
        """A machine that emits the events."""
        return MessageStreamMachine(self, context, token)


class MessageStreamMachine(Machine[None]):
    """Sends the message once and emits events up to `message:completed` or `message:failed`.

    *Subscribing* and *sending beside* are the way to a server that answers on the thread's
    stream, *sending* is that to any other. A message that has to wait before it can be sent lets
    go of its subscription.
    """

    TRANSITIONS = {
        "ready": {"start": ("sending", "subscribing")},
        "subscribing": {
            "stream_opened": ("subscribing", "sending beside"),
            "bytes_received": ("subscribing",),
            "stream_quiet": ("subscribing",),
            "stream_ended": ("subscribing", "sending", "failed"),
            "stream_closed": ("subscribing", "sending", "failed"),
            "transport_failed": ("subscribing", "sending", "failed"),
        },
        "sending beside": {
            "response_received": ("following", "closing"),
            "transport_failed": ("closing",),
        },
        "closing": {"stream_closed": ("pausing", "sending whole", "following", "failed")},
        "pausing": {"waited": ("sending",)},
        "sending": {
            "stream_opened": ("sending", "following"),
            "bytes_received": ("sending",),
            "stream_quiet": ("sending",),
            "stream_ended": ("sending", "sending whole", "following", "failed"),
            "stream_closed": ("sending", "sending whole", "failed"),
            "response_received": ("sending", "sending whole", "following", "failed"),
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
        super().__init__()
        self._stream = stream
        self._context = context
        self._token = token
        self._following: Optional[AnswerStreamMachine] = None
        self._put_off: Optional[Machine[Any]] = None
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
        if not self._context.traits.two_connections:
            return self._send(now, jitter)
        self.state = "subscribing"
        call = CallMachine(
            self._stream.events,
            self._context,
            self._token,
            stream=True,
            policy=ONCE,
            deadline=now + SUBSCRIBING,
        )
        return self._delegate(call, now, jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        self.state = "sending"
        return self._resume(cast("Machine[Any]", self._put_off), now, jitter)

    # Sending

    def _send(self, now: float, jitter: float) -> Action:
        self.state = "sending"
        self._context.traits.two_connections = False
        call = CallMachine(self._stream.streaming, self._context, self._token, stream=True)
        return self._delegate(call, now, jitter)

    def _send_beside(self, now: float, jitter: float) -> Action:
        """The subscription stands and is set aside, unread, until the message is sent."""
        self.state = "sending beside"
        call = CallMachine(self._stream.streaming, self._context, self._token)
        return self._delegate(call, now, jitter)

    def _send_whole(self, now: float, jitter: float) -> Action:
        self.state = "sending whole"
        # Another body than the refused one's, so another idempotency key.
        call = CallMachine(self._stream.whole, self._context, self._token + "-whole")
        return self._delegate(call, now, jitter)

    def _inner_waits(self, wait: Wait, now: float, jitter: float) -> Action:
        if self.state != "sending beside":
            return wait
        self._put_off = self._park()
        return self._close_then(lambda _now, _jitter: self._pause(wait))

    def _pause(self, wait: Wait) -> Action:
        self.state = "pausing"
        return wait

    # What came of it

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Fail):
            return self._ended_badly(outcome.error, now, jitter)
        if self.state == "following":
            return self._done(None)
        if self.state == "subscribing":
            opened = isinstance(outcome.value, ResponseHead)
            return self._send_beside(now, jitter) if opened else self._send(now, jitter)
        if isinstance(outcome.value, ResponseHead):
            self.request_id = shown_request_id(None, outcome.value.headers, self._context.scrubber)
            return self._follow(now, jitter, opened=True)
        return self._answered(outcome.value, now, jitter)

    def _answered(self, reply: Reply[Any], now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(reply, reply.headers, self._context.scrubber)
        answer: JsonObject = reply["data"]
        beside, whole = self.state == "sending beside", self.state == "sending whole"
        if _is_to_come(answer):
            return self._follow(now, jitter, opened=beside, answer=answer, learns=not whole)
        self._context.traits.two_connections = False
        events = answer["events"] if "events" in answer else _events_of(answer)
        if not events or events[-1]["type"] not in MESSAGE_TERMINAL:
            return self._fail_closed(StreamError("The answer broke off", code="stream_lost"))
        told = partial(self._follow, answer=answer, events=events)
        return self._close_then(told) if beside else told(now, jitter)

    def _follow(self, now: float, jitter: float, **more: Any) -> Action:
        self.state = "following"
        self._following = AnswerStreamMachine(self._stream, self._context, self._token, **more)
        return self._delegate(self._following, now, jitter)

    def _ended_badly(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if self.state == "subscribing" and not isinstance(error, AuthenticationError):
            return self._send(now, jitter)
        self._context.traits.two_connections = False
        if self.state in ("sending", "sending beside") and _not_offered(error):
            beside = self.state == "sending beside"
            return self._close_then(self._send_whole) if beside else self._send_whole(now, jitter)
        return self._fail_closed(error)

    def _fail_closed(self, error: FlowMaestroError) -> Action:
        if self.state == "sending beside":
            return self._close_then(lambda _now, _jitter: self._fail(error))
        return self._fail(error)


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
