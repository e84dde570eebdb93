"""Following one answer on an event stream, and completing it if the stream has a gap.

* After a gap (the subscription began late, or was lost and made again) tokens are left out until
  the whole text is known, so that the caller never reads a text with a hole in it.
* When the stream goes quiet or is lost for good, the thread's messages are polled. They are also
  polled if the end came garbled, or without the text that was missed.

No text is made up: if the messages do not show it, the error that came first is raised.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional, Sequence, cast

from flowmaestro_core.actions import Action, Emit, Fail
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, StreamError, TimeoutError
from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_core.machine import Machine
from flowmaestro_core.messages.answer_lookup import AnswerLookup
from flowmaestro_core.messages.operation import MessageStream
from flowmaestro_core.payloads.json_values import JsonObject, text_or_empty
from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.event_stream import EventStreamMachine
from flowmaestro_core.streams.events import MESSAGE_TERMINAL
from flowmaestro_core.streams.operation import Events
from flowmaestro_core.streams.probe import IdleMonitor

IDS = ("thread_id", "message_id", "execution_id")


def ids_of(message: JsonObject) -> JsonObject:
    """The ids that an answer or an event bears."""
    return {key: message[key] for key in IDS if message.get(key) is not None}


def completed_event(ids: JsonObject, content: Any, usage: Any) -> JsonObject:
    """`message:completed`, made from an answer that came another way."""
    return {"type": "message:completed", **ids, "content": content, "usage": usage}


def token_event(ids: JsonObject, text: str) -> JsonObject:
    """`message:token`, made from an answer that came another way."""
    return {"type": "message:token", **ids, "token": text}


class AnswerMonitor(IdleMonitor):
    """Gives the stream up after `patience` seconds without an event."""

    def __init__(self, times: StreamTimes, patience: float) -> None:
        super().__init__(times, can_probe=False)
        self._patience = patience
        self._schedule: Optional[PollSchedule] = None

    def begin(self, now: float) -> None:
        super().begin(now)
        self.give_up_at = now + self._patience

    def on_event(self, now: float) -> None:
        super().on_event(now)
        self.give_up_at = now + self._patience

    def resume(self, now: float) -> None:
        super().resume(now)
        self.give_up_at += now - self.away_at

    def poll(self, now: float) -> None:
        """There will be no connection: only probes, on a schedule, can bring the ending now."""
        self._schedule = PollSchedule(now, self._times.event_idle)
        self._due_at = now
        self.give_up_at = now + self._patience

    def _rest(self, now: float) -> None:
        super()._rest(now)
        if self._schedule is not None:
            self._due_at = now + self._schedule.answered(now)


class AnswerStreamMachine(EventStreamMachine):
    """Emits the events of one answer, up to `message:completed` or `message:failed`.

    An event stream with another ending: probes look for the answer among the thread's messages.

    Without `answer`, the stream is the POST's own. It is open, all its events belong to the answer,
    and it is not opened twice. With `answer`, the reply to the POST, it is that of the thread.
    Either may be quiet for as long as the answer may take, and is then given up. `events` are all
    events of the answer, if they are known already.

    State beside the table and the parts: whether text was missed, whether the end came without its
    text, the row that may be all that has been written so far, and the error that a lost stream
    ends with unless a probe finds the answer.
    """

    TRANSITIONS = {
        **EventStreamMachine.TRANSITIONS,
        "ready": {"start": ("opening", "streaming", "emitting")},
        "opening": {
            **EventStreamMachine.TRANSITIONS["opening"],
            "stream_opened": ("opening", "streaming", "emitting", "closing"),
        },
        "emitting": {"emitted": ("emitting", "streaming", "probing", "closing", "ending")},
        "draining": {},
        "probing": {
            "response_received": (*EventStreamMachine._LEFT, "probing", "emitting", "ending"),
            "transport_failed": EventStreamMachine._LEFT,
        },
        "closing": {"stream_closed": ("ending", "probing", "backing off", "failed")},
    }

    def __init__(
        self,
        message: MessageStream,
        context: Context,
        token: str,
        *,
        answer: Optional[JsonObject] = None,
        events: Sequence[JsonObject] = (),
    ) -> None:
        self._own = answer is None
        times, limit = context.stream_times, context.options
        patience = limit.timeout_for(message.streaming.minimum_timeout)
        if self._own:
            times = replace(times, bytes_idle=max(times.bytes_idle, patience))
        source = message.streaming if self._own else message.events
        stream: Events[Any] = Events(source, MESSAGE_TERMINAL, resumable=not self._own)
        super().__init__(
            stream,
            replace(context, stream_times=times),
            token,
            opened=self._own,
            monitor=AnswerMonitor(times, patience),
        )
        self._ids = ids_of(answer or {})
        self._monitor.can_probe = self._message_id is not None
        self._message = message
        self._text = ""
        self._missed = not self._own
        self._ended = False
        self._so_far: Optional[JsonObject] = None
        self._lost: Optional[FlowMaestroError] = None
        if events:
            self._queue.extend(events[:-1])
            self._ending = Emit(events[-1])

    @property
    def message(self) -> Optional[JsonObject]:
        """The `message:completed` event once it was emitted."""
        if not self.finished or not isinstance(self._ending, Emit):
            return None
        last: JsonObject = self._ending.item
        return last if last["type"] == "message:completed" else None

    @property
    def _message_id(self) -> Optional[str]:
        return text_or_empty(self._ids.get("message_id")) or None

    # Events as they come

    def _opened(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self._missed = self._missed or (self._connection.openings > 0 and not self.last_event_id)
        return super()._opened(head, now, jitter)

    def _take(self, item: JsonObject) -> bool:
        kind = item["type"]
        if kind == "connected":
            return super()._take(item)
        if self._is_foreign(item):
            if kind in MESSAGE_TERMINAL:  # ours may be the question's id, and this its answer
                self._monitor.suspect()
            return False
        if self._own:
            self._ids = {**self._ids, **ids_of(item)}
            self._monitor.can_probe = self._message_id is not None
        if kind == "message:completed" and self._lacks_text(item):
            self._ended = True
            self._monitor.suspect()
            if self._message_id is None:
                self._ending = Fail(_text_lost())
            return False
        if kind in MESSAGE_TERMINAL:
            self._finish(item)
        elif kind == "message:token":
            self._take_token(item)
        else:
            self._missed = self._missed and (kind != "message:started" or bool(self._text))
            self._queue.append(item)
        return True

    def _take_token(self, item: JsonObject) -> None:
        if not self._missed:
            self._text += text_or_empty(item.get("token"))
            self._queue.append(item)

    def _is_foreign(self, item: JsonObject) -> bool:
        """Whether an event belongs to another message of the thread, as its id shows."""
        ours, its = self._message_id, item.get("message_id")
        return not self._own and ours is not None and isinstance(its, str) and ours != its

    def _lacks_text(self, completed: JsonObject) -> bool:
        """Whether an end lacks the text, which is not known otherwise.

        Garbled data comes as `data` (`event_from_sse`).
        """
        if isinstance(completed.get("content"), str):
            return False
        return self._missed or isinstance(completed.get("data"), str)

    def _finish(self, terminal: JsonObject) -> None:
        """Emit the part of the text that was missed, then the end."""
        content = text_or_empty(terminal.get("content"))
        untold = self._missed or not self._text
        if untold and content.startswith(self._text) and content != self._text:
            self._queue.append(token_event(ids_of(terminal), content[len(self._text) :]))
        self._ending = Emit(terminal)

    # Probing the messages

    def _inquiry(self, until: float) -> Machine[Any]:
        page, sought = self._message.messages, self._message_id or ""
        return AnswerLookup(page, sought, self._context, self._token, until)

    def _learn(self, data: Any) -> None:
        """Use the answer to a probe: a row of the thread, or `None`."""
        if data is None:
            return
        if self._lost is not None or self._ended or self._tells_more(data):
            self._complete(data)
        self._so_far = data

    def _tells_more(self, row: JsonObject) -> bool:
        """Whether a row has more text than the stream has brought, or is marked as completed."""
        return row.get("status") == "completed" or not self._text.startswith(row["content"])

    def _complete(self, row: JsonObject) -> None:
        self._missed = True
        self._finish(completed_event(self._ids, row["content"], row.get("usage")))

    # Endings

    def _give_up(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        """There will be no connection; poll the messages for the rest of the answer."""
        if not self._monitor.can_probe:
            self._ending = Fail(error)
        else:
            self._lost = error
            self._connection.abandon()
            cast("AnswerMonitor", self._monitor).poll(now)
        return self._next(now, jitter)

    def _probe_refused(self, error: FlowMaestroError) -> None:
        """There are no more probes, but a refusal does not end an open stream."""
        self._monitor.can_probe = False
        if self._lost is not None or self._ended:
            self._ending = Fail(self._lost or error)

    def _run_out(self) -> None:
        """Nothing has come for so long that the answer is what was written so far, if anything."""
        if self._so_far is not None and self._connection.is_open:
            self._complete(self._so_far)
        else:
            error = TimeoutError("The agent has not answered in time; it may still")
            self._ending = Fail(self._lost or error)


def _text_lost() -> StreamError:
    return StreamError(
        "A part of the answer was missed, and the server does not tell it", code="stream_lost"
    )
