"""Following one answer on an event stream, and completing it where the stream has not told all.

What is lost on the way is learned from the end of the stream or from the thread's messages:

* Tokens that come after a gap (the subscription began late, or was lost and made anew) are held
  back until the whole text is known, so that the caller never reads a text with a hole in it.
* A stream that stays silent, or is lost for good, is doubted: the thread's messages may have the
  answer already. So is an end that is garbled, or lacks the text that was missed.

An open stream outlives every refusal of such a question; and a row that says no more than the
stream has told may be what the agent has written so far.

Nothing is made up: where the messages do not tell, the error that came first is raised.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Callable, Deque, List, Optional, Union, cast

from flowmaestro_core.actions import LEAST_PATIENCE, Action, Close, Done, Emit, Fail, Read, Wait
from flowmaestro_core.calls.call import Call
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, StreamError, TimeoutError
from flowmaestro_core.executions.wait import asked_pause, may_pass
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.messages.answer_lookup import AnswerLookup, LookupCursor
from flowmaestro_core.payloads.json_values import JsonObject, text_or_empty
from flowmaestro_core.payloads.reply import RateLimit, asks_for_tomorrow
from flowmaestro_core.policy.polling import paced, poll_delay
from flowmaestro_core.streams.event_stream import Events, EventStreamMachine
from flowmaestro_core.streams.events import MESSAGE_TERMINAL
from flowmaestro_core.streams.silence import RECONCILE_BACKOFF

NO_ANSWER_EVENT = frozenset({"connected", "stream:reconnected"})
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


@dataclass(frozen=True)
class MessageCalls:
    """What can be asked of the server about one message.

    Attributes:
        streaming, whole: send it, with and without streaming.
        events: opens the thread's own stream.
        messages: builds the call for one page of the thread's messages.

    """

    streaming: Call[Any]
    whole: Call[Any]
    events: Call[Any]
    messages: Callable[[int], Call[Any]]


class AnswerStreamMachine(Machine[None]):
    """Emits the events of one answer, up to `message:completed` or `message:failed`.

    The stream is the POST's own, whose events all belong to the answer, or that of the thread;
    `answer` is then the reply to the POST, and `opened` whether it was subscribed to before.
    """

    TRANSITIONS = {
        "ready": {"start": ("following",)},
        "following": {
            "stream_opened": ("following",),
            "bytes_received": ("following", "asking", "closing"),
            "stream_quiet": ("following", "asking", "closing"),
            "stream_ended": ("following", "asking", "failed"),
            "stream_closed": ("following", "asking", "failed"),
            "transport_failed": ("following", "asking", "failed"),
            "waited": ("following",),
            "emitted": ("following", "asking", "closing"),
        },
        "asking": {
            "response_received": (
                "asking",
                "following",
                "closing",
                "pausing",
                "emitting",
                "failed",
            ),
            "transport_failed": ("following", "closing", "pausing", "failed"),
        },
        "pausing": {"waited": ("asking",)},
        "closing": {"stream_closed": ("emitting", "failed")},
        "emitting": {"emitted": ("emitting", "done")},
    }

    def __init__(
        self,
        message: MessageCalls,
        context: Context,
        token: str,
        *,
        opened: bool = False,
        answer: Optional[JsonObject] = None,
    ) -> None:
        super().__init__()
        self._message = message
        self._context = context
        self._token = token
        self._times = times = context.stream_times
        self._own = answer is None
        if self._own:  # an agent may be silent for as long as it may take
            patient = replace(times, bytes_idle=max(times.bytes_idle, self._patience()))
            context = replace(context, stream_times=patient)
        source = message.streaming if self._own else message.events
        # The end of one message is not the end of a thread's stream, so it is seen to here.
        events: Events[Any] = Events(source, unrepeated=MESSAGE_TERMINAL, resumable=not self._own)
        self.stream = EventStreamMachine(events, context, token, opened=opened)
        self._ids = ids_of(answer or {})
        self._gap = not opened
        self._text = ""
        self._held: List[JsonObject] = []
        self._queue: Deque[JsonObject] = deque()
        self._heard = True
        self._unsure = False
        self._ended = False
        self._overheard = False
        self._refused: Optional[FlowMaestroError] = None
        self._so_far: Optional[JsonObject] = None
        self._place = LookupCursor()
        self._doubts = 0
        self._doubt_at = 0.0
        self._give_up_at = 0.0
        self._quiet_at = 0.0
        self._lost_at = 0.0
        self._lost: Optional[FlowMaestroError] = None
        self._error: Optional[FlowMaestroError] = None

    @property
    def listening(self) -> bool:
        """Whether the subscription stands."""
        return self.stream.state == "streaming"

    @property
    def finished(self) -> bool:
        """Whether the answer's last event has been emitted."""
        return self.state in ("emitting", "done") and not self._queue

    @event
    def start(self, now: float, jitter: float) -> Action:
        self.state = "following"
        return self._delegate(self.stream, now, jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._ask(now, jitter)

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        return self._fail(self._error) if self._error is not None else self._next()

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        return self._next() if self._queue else self._done(None)

    # Events as they come

    def _pass_on(self, action: Action, now: float, jitter: float) -> Action:
        while self.state == "following" and isinstance(action, Emit):
            shown = self._show(action.item)
            if shown is not None:
                return shown
            action = self.stream.emitted(now, jitter)
        if self.state == "following" and isinstance(action, Read) and self.listening:
            self._quiet_at = now + action.patience
            return self._listen(now, jitter)
        return super()._pass_on(action, now, jitter)

    def _show(self, item: JsonObject) -> Optional[Action]:
        """Emit an event, if it is ours and can be shown already."""
        kind = item["type"]
        if kind == "stream:reconnected":
            self._gap = self._gap or not self.stream.last_event_id
        if kind in NO_ANSWER_EVENT:
            return Emit(item)
        if self._is_foreign(item):
            # Ours may be the question's id, and this the end of its answer: the messages tell.
            self._overheard = self._overheard or kind in MESSAGE_TERMINAL
            return None
        if kind == "message:completed" and self._lacks_text(item):
            if self._message_id is None:
                return self._leave(_text_lost())
            self._unsure = self._ended = True
            return None
        self._heard = True
        self._overheard = False
        if self._own:
            self._ids = {**self._ids, **ids_of(item)}
        if kind in MESSAGE_TERMINAL:
            return self._close(*self._completing(item))
        if kind == "message:started" and not self._text:
            self._gap = False
        if kind == "message:token":
            if self._gap:
                self._held.append(item)
                return None
            self._text += text_or_empty(item.get("token"))
        return Emit(item)

    def _is_foreign(self, item: JsonObject) -> bool:
        """Whether the ids tell that an event belongs to another message of the thread."""
        if self._own:
            return False
        ours, its = self._ids.get("message_id"), item.get("message_id")
        return isinstance(ours, str) and isinstance(its, str) and ours != its

    def _lacks_text(self, completed: JsonObject) -> bool:
        """Whether an end does not tell the text, which is not known otherwise: it is not believed.

        Garbled data comes as `data` (`read_event`).
        """
        if isinstance(completed.get("content"), str):
            return False
        return self._gap or isinstance(completed.get("data"), str)

    def _completing(self, terminal: JsonObject) -> List[JsonObject]:
        """What is still to be emitted, now that the end is known."""
        content = text_or_empty(terminal.get("content"))
        untold = self._gap or not self._text
        if not (untold and content and content.startswith(self._text)):
            return [*self._held, terminal]
        missing = content[len(self._text) :]
        return [token_event(ids_of(terminal), missing), terminal] if missing else [terminal]

    # Doubting a silence

    def _listen(self, now: float, jitter: float) -> Action:
        """Read on, but no longer than a silence is trusted."""
        if self._heard:
            self._heard = False
            self._doubts = 0
            self._refused = self._so_far = None
            self._give_up_at = now + self._patience()
            self._doubt_later(now, RateLimit())
        if now >= self._give_up_at:
            return self._give_up()
        until = min(self._quiet_at, self._give_up_at)
        if self._message_id is not None:
            if self._unsure or self._overheard or now >= self._doubt_at:
                self._unsure = self._overheard = False
                return self._ask(now, jitter)
            until = min(until, self._doubt_at)
        return Read(max(until - now, 0.0), least=min(LEAST_PATIENCE, self._give_up_at - now))

    def _give_up(self) -> Action:
        """Nothing has come for so long that what was written so far is the answer, if anything."""
        if self._so_far is not None:
            return self._complete(self._so_far)
        error = TimeoutError("The agent has not answered in time; it may still")
        error.__cause__ = self._refused
        return self._leave(error)

    def _patience(self) -> float:
        """Seconds without an event after which there will be no answer."""
        return self._context.options.timeout_for(self._message.streaming.minimum_timeout)

    def _doubt_later(self, now: float, limit: RateLimit) -> None:
        idle, longest = self._times.event_idle, self._times.event_idle_max
        delay = min(idle * RECONCILE_BACKOFF ** min(self._doubts, 64), longest)
        self._doubt_at = now + paced(delay, limit)

    # Asking for the messages

    @property
    def _message_id(self) -> Optional[str]:
        return text_or_empty(self._ids.get("message_id")) or None

    def _ask(self, now: float, jitter: float) -> Action:
        self.state = "asking"
        self._search = AnswerLookup(
            self._message.messages, self._message_id or "", self._context, self._token, self._place
        )
        return self._delegate(self._search, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == "following":
            return self._lose(cast("Fail", outcome).error, now, jitter)
        stays_so = self._lost is not None or self._ended
        pause = 0.0
        if isinstance(outcome, Fail):
            pause, error = asked_pause(outcome.error), outcome.error
            if not may_pass(error, known=True) or asks_for_tomorrow(error):
                if stays_so:
                    return self._leave(self._lost or error)
                self._refused, pause = error, math.inf
        elif outcome.value is not None:
            if stays_so or self._tells_more(outcome.value):
                return self._complete(outcome.value)
            self._so_far = outcome.value
        if self._lost is not None:
            return self._pause(self._lost, pause, now)
        self.state = "following"
        self._inner = self.stream
        self._doubts += 1
        self._doubt_later(now, self._search.rate_limit)
        self._doubt_at = max(self._doubt_at, now + pause)
        return self._listen(now, jitter)

    def _lose(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        """The stream is gone for good; what it did not tell, the messages may."""
        if self._message_id is None or self._refused is not None:
            return self._fail(self._refused or error)
        self._lost = error
        self._lost_at = now
        self._give_up_at = now + self._patience()
        return self._ask(now, jitter)

    def _tells_more(self, answer: JsonObject) -> bool:
        """Whether a row says more than the stream has told, or says itself that it is whole."""
        return answer.get("status") == "completed" or not self._text.startswith(answer["content"])

    def _pause(self, lost: FlowMaestroError, asked: float, now: float) -> Action:
        """The agent may still be at it: ask again after a while."""
        remaining = self._give_up_at - now
        delay = paced(
            poll_delay(now - self._lost_at, self._times.event_idle), self._search.rate_limit
        )
        if remaining <= 0 or asked > remaining:
            return self._fail(lost)
        self.state = "pausing"
        return Wait(min(max(delay, asked), remaining))

    def _complete(self, answer: JsonObject) -> Action:
        self._gap = True
        end = completed_event(self._ids, answer["content"], answer.get("usage"))
        self._queue.extend(self._completing(end))
        return self._next() if self._lost is not None else self._close()

    # Endings

    def _close(self, *last: JsonObject) -> Action:
        """Emit the last events, once the body is closed."""
        self._queue.extend(last)
        self.state = "closing"
        self._inner = None
        return Close()

    def _leave(self, error: FlowMaestroError) -> Action:
        """Fail, once the body is closed."""
        if self._lost is not None:
            return self._fail(error)
        self._error = error
        return self._close()

    def _next(self) -> Action:
        self.state = "emitting"
        return Emit(self._queue.popleft())


def _text_lost() -> StreamError:
    return StreamError(
        "A part of the answer was missed, and the server does not tell it", code="stream_lost"
    )
