"""Sending a message and following the answer. The server responds to the POST in one of three ways.

1. With an event stream.
2. With JSON. If it holds the answer, the events are made from it. If it says that the answer is
   still to come, the thread's messages are polled, and the answer is emitted as one token and the
   end.
3. With a 501: the agent did not get the message. The message is then sent without streaming, and
   the reply is used as in 2.

The agent never gets the message twice, and no text is made up. When the POST's own stream goes
quiet or is lost, the thread's messages are polled, too, if an event has shown the answer's id. If
the messages do not show the answer of a lost stream, the error of the stream is raised. Without a
stream, as in 2, the error is a timeout, or the error of a poll that was refused.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Any, Optional

from flowmaestro_core.actions import Action, Emit, Fail
from flowmaestro_core.calls.call import CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, ServerError, StreamError, TimeoutError
from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_core.machine import Machine
from flowmaestro_core.messages.answer import (
    completed_event,
    events_of,
    ids_of,
    is_pending,
    token_event,
)
from flowmaestro_core.messages.answer_lookup import AnswerLookup
from flowmaestro_core.messages.operation import MessageStream
from flowmaestro_core.payloads.json_values import JsonObject, text_or_empty
from flowmaestro_core.payloads.reply import Reply, shown_request_id
from flowmaestro_core.policy.retry import is_transient
from flowmaestro_core.streams.connection import not_resumed
from flowmaestro_core.streams.event_stream import EventStreamMachine
from flowmaestro_core.streams.events import MESSAGE_TERMINAL
from flowmaestro_core.streams.operation import Events


class MessagePhase(Enum):
    """The phases of a streamed message."""

    SENDING = "sending"
    """The message is sent, and a stream is requested."""
    SENDING_WHOLE = "sending whole"
    """The message is sent without streaming, because the server does not stream (501)."""
    FOLLOWING = "following"
    """The answer is read from the stream of the POST."""
    POLLING = "polling"
    """The server said that the answer is still to come. Polls look for it."""


class MessageStreamMachine(EventStreamMachine):
    """Sends the message and emits events up to `message:completed` or `message:failed`, or fails.

    It differs from other event streams in its beginning and its ending. Its probes look for the
    answer among the thread's messages. The stream may be quiet for as long as the answer may take,
    and then times out. The stream is not opened twice, since that would send the message again.

    State that an event stream does not have: the phase, the answer's ids, and its text so far. The
    state `opening` has both phases of sending.
    """

    request_id: Optional[str]

    def __init__(self, message: MessageStream, context: Context, token: str) -> None:
        super().__init__(Events(message.streaming, MESSAGE_TERMINAL), context, token)
        self._message = message
        self._phase = MessagePhase.SENDING
        self._ids: JsonObject = {}
        """The ids of the answer, as far as the reply or the events have shown them."""
        self._text = ""
        """The text of the tokens that were received."""

    @property
    def message(self) -> Optional[JsonObject]:
        """The `message:completed` event once it was emitted; else `None`."""
        if self.finished and self._terminal["type"] == "message:completed":
            return self._terminal
        return None

    @property
    def _message_id(self) -> Optional[str]:
        return text_or_empty(self._ids.get("message_id")) or None

    # Sending

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if (
            self._phase is MessagePhase.SENDING
            and isinstance(error, ServerError)
            and error.status_code == 501
        ):
            self._phase = MessagePhase.SENDING_WHOLE
            # The body differs from the refused one, so the idempotency key must differ, too.
            call, key = self._message.whole, self._message.whole.idempotency_key
            if key is not None:
                call = replace(call, idempotency_key=key + "-whole")
            whole = CallMachine(call, self._context, self._token + "-whole")
            return self._delegate(whole, now, jitter)
        return super()._not_opened(error, now, jitter)

    def _replied(self, reply: Reply[Any], now: float, jitter: float) -> Action:
        """Use the answer in a JSON reply to the POST.

        If the answer is still to come, poll for it, or fail if there is no `message_id` to poll
        with.
        """
        self.request_id = shown_request_id(reply, reply.headers, self.scrubber)
        answer: JsonObject = reply["data"]
        self._ids = ids_of(answer)
        if not is_pending(answer):
            *events, last = events_of(answer)
            self._queue.extend(events)
            self._end_with(Emit([last]))
        elif self._message_id is None:
            said = "The answer is still to come, and the server gave no message_id to find it by"
            self._end_with(Fail(StreamError(said, code="stream_lost")))
        else:
            self._phase = MessagePhase.POLLING
            self._allow_silence(now)
            self._stream.can_probe = True
            self._end_unless_probed(self._timeout_error(), now)
        return self._next(now, jitter)

    def _opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self._phase = MessagePhase.FOLLOWING
        self._allow_silence(now)
        return super()._opened(head, now, jitter)

    def _allow_silence(self, now: float) -> None:
        """Let the stream time out once no event has come for as long as the answer may take.

        That is the timeout of one attempt to send the message. It counts from `now`, and again from
        each event.
        """
        limit = self._context.options.timeout_for(self._message.streaming.minimum_timeout)
        self._stream.allow_silence(now, limit)

    # Events as they come

    def _accept_event(self, item: JsonObject, now: float) -> bool:
        kind = item["type"]
        if kind == "connected":
            return super()._accept_event(item, now)
        had_id = self._message_id is not None
        self._ids = {**self._ids, **ids_of(item)}
        if not had_id and self._message_id is not None:
            # Only now can the answer be recognised among the messages.
            self._stream.can_probe = True
        if kind in MESSAGE_TERMINAL:
            self._finish(item)
            return True
        if kind == "message:token":
            self._text += text_or_empty(item.get("token"))
        self._queue.append(item)
        return True

    def _finish(self, terminal: JsonObject) -> None:
        """End with the event `terminal`. First, queue the text that the tokens did not deliver.

        If its text does not begin with that of the tokens, queue nothing.
        """
        text = text_or_empty(terminal.get("content"))
        if text.startswith(self._text) and text != self._text:
            self._queue.append(token_event(ids_of(terminal), text[len(self._text) :]))
        self._end_with(Emit([terminal]))

    # Probing the messages

    def _probe_machine(self, until: float) -> Machine[Any]:
        page, sought = self._message.messages, self._message_id or ""
        return AnswerLookup(page, sought, self._context, self._token, until)

    def _apply_probe(self, data: Any, now: float) -> None:
        """Use the result of a probe: `data` is the message that is the answer.

        `data` is `None` if there is no complete answer yet. Then nothing changes.

        While the stream is open, a message whose text the tokens have delivered already is not
        taken for the whole answer, unless its status is `completed`. The agent may be using a tool,
        and continue the answer later.
        """
        if data is None:
            return
        tells_more = not self._text.startswith(data["content"])
        is_lost = not self._stream.is_open
        if is_lost or tells_more or data.get("status") == "completed":
            self._finish(completed_event(self._ids, data["content"], data.get("usage")))

    def _probe_refused(self, error: FlowMaestroError) -> None:
        """Send no more probes after `error`, which every further probe would get.

        An open stream continues, since it may still deliver the answer. A lost stream keeps its own
        error. If there was no stream, and the answer is only polled for, end with `error`.
        """
        self._stream.can_probe = False
        if self._phase is MessagePhase.POLLING:
            self._end_with(Fail(error))
        elif not self._stream.is_open:
            super()._probe_refused(error)

    def _is_transient(self, error: FlowMaestroError) -> bool:
        has_answered = self._phase in (MessagePhase.FOLLOWING, MessagePhase.POLLING)
        return is_transient(error, server_known=has_answered)

    # Endings

    def _connection_lost(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        """Fail unless a probe finds the answer: the stream of a POST cannot be opened twice."""
        if self._ending is None:
            error = not_resumed("it cannot be opened twice", cause, self.scrubber)
            self._end_unless_probed(error, now)
        return super()._connection_lost(cause, now, jitter)

    def _timeout_error(self) -> FlowMaestroError:
        return TimeoutError("The agent has not answered in time; it may still")
