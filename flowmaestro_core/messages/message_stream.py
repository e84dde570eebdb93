"""Sending a message and following the answer, whichever of three ways the server has.

1. The POST itself answers with an event stream.
2. It answers with JSON, and the events are on the thread's own stream, which is opened then.
3. It answers 501: nothing was sent. The message is then sent without streaming, and the events
   are made from the answer, or followed as in 2 if the answer is still to come.

The message is never sent twice, and no text is made up.

* After a gap (the thread's stream was opened late, or opened again without ids to resume from)
  tokens are left out until the end brings the whole text, so that the caller never reads a text
  with a hole in it.
* When the stream goes quiet, is lost for good, or ends without a text that was missed, the thread's
  messages are polled. If they do not show the answer, the error that came first is raised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from flowmaestro_core.actions import Action, Emit
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, ServerError, StreamError, TimeoutError
from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_core.machine import Machine
from flowmaestro_core.messages.answer import (
    completed_event,
    events_of,
    ids_of,
    is_to_come,
    token_event,
)
from flowmaestro_core.messages.answer_lookup import AnswerLookup
from flowmaestro_core.messages.operation import MessageStream
from flowmaestro_core.payloads.json_values import JsonObject, text_or_empty
from flowmaestro_core.payloads.reply import Reply, shown_request_id
from flowmaestro_core.streams.connection import not_resumed
from flowmaestro_core.streams.event_stream import EventStreamMachine
from flowmaestro_core.streams.events import MESSAGE_TERMINAL
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.streams.probe import IdleMonitor


class MessageStreamMachine(EventStreamMachine):
    """Sends the message once and emits events up to `message:completed` or `message:failed`.

    An event stream with another beginning, and another ending: probes look for the answer among
    the thread's messages. The source of its events is the call that is made: the message with
    streaming, without, then the thread's stream. Any stream may be quiet for as long as the answer
    may take, and is then given up. The POST's own stream is not opened twice. Neither is one
    that has told the end without a text that was missed.

    State beside the table and the parts: the answer's ids, its text so far, and whether text was
    missed.
    """

    def __init__(self, message: MessageStream, context: Context, token: str) -> None:
        super().__init__(Events(message.streaming, MESSAGE_TERMINAL), context, token)
        self._message = message
        self._ids: JsonObject = {}
        self._text = ""
        self._missed = False

    @property
    def message(self) -> Optional[JsonObject]:
        """The `message:completed` event once it was emitted; `None` before."""
        if not self.finished or not isinstance(self._ending, Emit):
            return None
        last: JsonObject = self._ending.item
        return last if last["type"] == "message:completed" else None

    @property
    def _message_id(self) -> Optional[str]:
        return text_or_empty(self._ids.get("message_id")) or None

    @property
    def _is_own(self) -> bool:
        """Whether the events are those of the POST's own reply."""
        return self._events.source is self._message.streaming

    # Sending

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if self._is_own and isinstance(error, ServerError) and error.status_code == 501:
            self._events = replace(self._events, source=self._message.whole)
            # Another body than the refused one's, so another idempotency key.
            whole = CallMachine(self._message.whole, self._context, self._token + "-whole")
            return self._delegate(whole, now, jitter)
        if self._is_own or self._may_reopen(error):
            return super()._not_opened(error, now, jitter)
        self._give_up(error, now)
        return self._next(now, jitter)

    def _replied(self, reply: Reply[Any], now: float, jitter: float) -> Action:
        if self._events.source is self._message.events:
            return super()._replied(reply, now, jitter)
        self.request_id = shown_request_id(reply, reply.headers, self.scrubber)
        self._events = replace(self._events, source=self._message.events)
        answer: JsonObject = reply["data"]
        self._ids, self._missed = ids_of(answer), True
        self._follow(now)
        if not is_to_come(answer):
            *events, last = events_of(answer)
            self._queue.extend(events)
            self._ending = Emit(last)
        return self._next(now, jitter)

    def _opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        if self._is_own:
            self._follow(now)
        self._missed = self._missed or (
            self._connection.openings > 0 and not self._connection.headers
        )
        return super()._opened(head, now, jitter)

    def _follow(self, now: float) -> None:
        """The message was answered; the answer may take as long as the call."""
        times = self._context.stream_times
        patience = self._context.options.timeout_for(self._message.streaming.minimum_timeout)
        if self._is_own:
            times = replace(times, bytes_idle=max(times.bytes_idle, patience))
        can_probe = self._message_id is not None
        self._monitor = IdleMonitor(times, can_probe=can_probe, patience=patience)
        self._monitor.begin(now)

    # Events as they come

    def _take(self, item: JsonObject, now: float) -> bool:
        kind = item["type"]
        if kind == "connected":
            return super()._take(item, now)
        if self._is_own:
            known = self._message_id
            self._ids = {**self._ids, **ids_of(item)}
            self._monitor.can_probe |= known is None and self._message_id is not None
        elif self._is_foreign(item):
            return False
        if kind in MESSAGE_TERMINAL:
            lacks_text = kind == "message:completed" and not isinstance(item["content"], str)
            if self._missed and lacks_text:
                said = "A part of the answer was missed, and the server does not tell it"
                self._give_up(StreamError(said, code="stream_lost"), now)
            else:
                self._finish(item)
            return False
        if kind != "message:token":
            self._missed = self._missed and (kind != "message:started" or bool(self._text))
            self._queue.append(item)
        elif not self._missed:
            self._text += text_or_empty(item.get("token"))
            self._queue.append(item)
        return True

    def _is_foreign(self, item: JsonObject) -> bool:
        """Whether an event belongs to another message of the thread, as its id shows."""
        ours, its = self._message_id, item.get("message_id")
        return ours is not None and isinstance(its, str) and ours != its

    def _finish(self, terminal: JsonObject) -> None:
        """Emit the rest of the text, if the tokens were not all of it, then the end."""
        text = text_or_empty(terminal.get("content"))
        if text.startswith(self._text) and text != self._text:
            self._queue.append(token_event(ids_of(terminal), text[len(self._text) :]))
        self._ending = Emit(terminal)

    # Probing the messages

    def _inquiry(self, until: float) -> Machine[Any]:
        page, sought = self._message.messages, self._message_id or ""
        return AnswerLookup(page, sought, self._context, self._token, until)

    def _learn(self, data: Any) -> None:
        """Use the answer to a probe: a row of the thread, or `None`.

        While there is a stream, a row that tells no more than the stream did may be what the agent
        said before it uses a tool, unless it is marked as completed.
        """
        if data is None:
            return
        tells_more = not self._text.startswith(data["content"])
        if self._is_pending or tells_more or data.get("status") == "completed":
            self._missed = True
            self._finish(completed_event(self._ids, data["content"], data.get("usage")))

    def _probe_refused(self, error: FlowMaestroError) -> None:
        """There are no more probes. A refusal does not end an open stream that may tell more."""
        self._monitor.can_probe = self._is_pending = False

    # Endings

    def _lose(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        """The POST's own stream cannot be opened twice."""
        if self._ending is None and self._is_own:
            self._give_up(not_resumed("it cannot be opened twice", cause, self.scrubber), now)
        return super()._lose(cause, now, jitter)

    def _too_late(self) -> FlowMaestroError:
        return TimeoutError("The agent has not answered in time; it may still")
