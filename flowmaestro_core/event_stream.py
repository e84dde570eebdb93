"""Following an event stream to its true end: decode, reconnect, reconcile."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Deque, Dict, FrozenSet, Generic, Optional, TypeVar, Union

from flowmaestro_core.actions import Action, Close, Done, Emit, Fail, Read, Wait
from flowmaestro_core.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import FlowMaestroError, RateLimitError, StreamError, TimeoutError
from flowmaestro_core.events import event_from_sse, is_garbled_end, terminal_event
from flowmaestro_core.http import ResponseHead, TransportFailure
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.options import is_token
from flowmaestro_core.pacing import paced, poll_delay
from flowmaestro_core.reply import Reply, asks_for_tomorrow
from flowmaestro_core.retry import GiveUp
from flowmaestro_core.sse import ServerSentEvent, SseDecoder
from flowmaestro_core.streams import AsyncEventStream, EventStream
from flowmaestro_core.wait import ONCE, asked_pause, is_terminal, may_pass

E = TypeVar("E")

REMEMBERED_IDS = 1024
RECONCILE_BACKOFF = 1.5


@dataclass(frozen=True)
class Events(Operation[EventStream[E], AsyncEventStream[E]], Generic[E]):
    """The events of one execution or thread.

    Attributes:
        source: the call that opens the stream.
        terminal: the types of the events after which there is none.
        reconcile: the call that tells whether the execution has ended, where there is one.
        resumable: whether opening the source again does no harm.

    """

    source: Call[Any]
    terminal: FrozenSet[str] = frozenset()
    reconcile: Optional[Call[Any]] = None
    resumable: bool = True

    def machine(self, context: Context, token: str) -> EventStreamMachine:
        """A machine that emits the events."""
        return EventStreamMachine(self, context, token)


class EventStreamMachine(Machine[Any]):
    """Emits events until a terminal one, and ends in no other way but an error.

    Two clocks doubt a quiet stream (`StreamTimes`). *Event-idle*: no event for a while, so ask
    for the execution itself, beside the open stream; if that has ended, its terminal event is
    made from the answer. *Bytes-idle*: not even a keepalive, so the connection is dead. A lost
    connection is made anew, at most `max_retries` times without progress in between (a live
    event, or an answer to the question), and the gap is marked with `stream:reconnected`.
    Before a stream is given up, its execution is asked for once more.

    The connection is closed before a terminal event is emitted. `execution` is the ended
    execution when it was learned by asking.
    """

    TRANSITIONS = {
        "ready": {"start": ("opening", "streaming")},
        "opening": {
            "stream_opened": ("opening", "streaming", "emitting", "closing"),
            "transport_failed": ("opening", "reconciling", "backing off", "failed"),
            "waited": ("opening",),
            "bytes_received": ("opening",),
            "stream_quiet": ("opening",),
            "stream_ended": ("opening", "reconciling", "backing off", "failed"),
            "stream_closed": ("opening", "reconciling", "backing off", "failed"),
        },
        "streaming": {
            "bytes_received": ("streaming", "emitting", "closing", "reconciling"),
            "stream_quiet": ("streaming", "reconciling", "closing"),
            "stream_ended": ("reconciling", "backing off", "failed"),
            "transport_failed": ("reconciling", "backing off", "failed"),
        },
        "emitting": {
            "emitted": ("emitting", "streaming", "reconciling", "closing", "done"),
        },
        "reconciling": {
            "response_received": (
                "reconciling",
                "streaming",
                "closing",
                "emitting",
                "backing off",
                "failed",
            ),
            "transport_failed": ("reconciling", "streaming", "closing", "failed"),
            "waited": ("reconciling",),
        },
        "closing": {"stream_closed": ("emitting", "reconciling", "backing off", "failed")},
        "backing off": {"waited": ("opening",)},
    }

    def __init__(
        self,
        events: Events[Any],
        context: Context,
        token: str,
        *,
        opened: bool = False,
        deadline: Optional[float] = None,
        silent_poll: Optional[float] = None,
    ) -> None:
        """`opened`: the body is open already. `silent_poll`: until a first live event has come,
        ask on the ramp of a wait with this interval, in seconds.
        """
        super().__init__()
        self._events = events
        self._context = context
        self._token = token
        self._body_open = self._opened_before = opened
        self._deadline = deadline
        self._silent_poll = silent_poll
        self._times = context.stream_times
        self._policy = replace(
            context.retry_policy,
            base_delay=self._times.reconnect_base,
            max_delay=self._times.reconnect_max,
        )
        self._decoder = SseDecoder()
        self._queue: Deque[Dict[str, Any]] = deque()
        self._terminal: Optional[Dict[str, Any]] = None
        self._error: Optional[FlowMaestroError] = None
        self._given_up: Optional[StreamError] = None
        self._ids: Dict[str, None] = {}
        self._earlier_ids: Dict[str, None] = {}
        self._live = False
        self._connected_shown = False
        self._started = 0.0
        self._failures = 0
        self._doubts = 0
        self._reconcile_at = 0.0
        self._dead_at = 0.0
        self._asked_at = 0.0
        self._ask_at_once = False
        self.reconnects = 0
        self.request_id: Optional[str] = None
        self.execution: Optional[Dict[str, Any]] = None

    @property
    def last_event_id(self) -> str:
        """The id that a reconnection resumes from; `""` when the server sends none."""
        return self._decoder.last_event_id

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        return self._terminal is not None and self.state in ("emitting", "done")

    @event
    def start(self, now: float, jitter: float) -> Action:
        self._started = now
        if self._body_open:
            self._reset_clocks(now)
            return self._read(now, jitter)
        return self._open(now, jitter, first=True)

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        self._dead_at = now + self._times.bytes_idle
        try:
            decoded = self._decoder.feed(data)
        except StreamError as error:
            return self._leave(error)
        for sse in decoded:
            self._take(sse, now)
        return self._next(now, jitter)

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        if now >= self._dead_at:
            return self._close()
        return self._next(now, jitter)

    @event
    def stream_ended(self, now: float, jitter: float) -> Action:
        self._body_open = False
        return self._reconnect(None, now, jitter)

    @event
    def transport_failed(self, failure: TransportFailure, now: float, jitter: float) -> Action:
        self._body_open = False
        return self._reconnect(failure, now, jitter)

    @event
    def stream_closed(self, now: float, jitter: float) -> Action:
        self._body_open = False
        if self._error is not None:
            return self._fail(self._error)
        if self._terminal is not None:
            return self._emit(self._terminal)
        return self._reconnect(None, now, jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._open(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        if self._terminal is not None:
            return self._done(self._terminal)
        if not self._queue:
            self._reset_clocks(now)
        return self._next(now, jitter)

    def _take(self, sse: ServerSentEvent, now: float) -> None:
        """Queue one decoded event, unless the caller has it already."""
        if sse.id:
            if sse.id in self._earlier_ids:
                return
            _remember(self._ids, sse.id)
        item = event_from_sse(sse)
        if item["type"] == "connected":
            if not self._connected_shown:
                self._connected_shown = True
                self._queue.append(item)
            return
        self._live = True
        self._progress()
        self._reset_clocks(now)
        if self._events.reconcile is not None and is_garbled_end(item):
            self._ask_at_once = True
        else:
            self._queue.append(item)

    def _next(self, now: float, jitter: float) -> Action:
        """Emit what is queued; doubt a silence that lasts; else read on."""
        if self._queue:
            item = self._queue.popleft()
            return self._end(item) if item["type"] in self._events.terminal else self._emit(item)
        if self._deadline is not None and now >= self._deadline:
            return self._leave(TimeoutError("The stream did not end in time"))
        ask = self._events.reconcile
        if ask is not None and (self._ask_at_once or now >= self._reconcile_at):
            return self._reconcile(ask, now, jitter)
        return self._read(now, jitter)

    def _read(self, now: float, jitter: float) -> Action:
        self.state = "streaming"
        until = self._dead_at
        if self._events.reconcile is not None:
            until = min(until, self._reconcile_at)
        if self._deadline is not None:
            until = min(until, self._deadline)
        return Read(until - now)

    def _emit(self, item: Dict[str, Any]) -> Action:
        self.state = "emitting"
        return Emit(item)

    def _close(self) -> Action:
        self.state = "closing"
        return Close()

    def _end(self, terminal: Dict[str, Any]) -> Action:
        """Emit the last event, once the body is closed."""
        self._terminal = terminal
        return self._close() if self._body_open else self._emit(terminal)

    def _leave(self, error: FlowMaestroError) -> Action:
        """Fail, once the body is closed."""
        self._error = error
        return self._close() if self._body_open else self._fail(error)

    def _progress(self) -> None:
        self._failures = 0

    def _reset_clocks(self, now: float) -> None:
        self._doubts = 0
        self._dead_at = now + self._times.bytes_idle
        self._doubt_later(now)

    def _doubt_later(self, now: float, asked: Optional[Reply[Any]] = None) -> None:
        """Set the time of the next question, ever later while nothing comes."""
        if self._silent_poll is not None and not self._live:
            delay = poll_delay(now - self._started, self._silent_poll)
        else:
            idle, longest = self._times.event_idle, self._times.event_idle_max
            delay = min(idle * RECONCILE_BACKOFF ** min(self._doubts, 64), longest)
        self._reconcile_at = now + (delay if asked is None else paced(delay, asked.rate_limit))

    # Asking for the execution itself

    def _reconcile(self, ask: Call[Any], now: float, jitter: float) -> Action:
        self.state = "reconciling"
        self._asked_at = now
        self._ask_at_once = False
        call = CallMachine(
            ask,
            self._context,
            self._token,
            policy=ONCE if self._body_open or self._given_up else None,
            deadline=self._deadline,
        )
        return self._delegate(call, now, jitter)

    def _reconciled(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        self._doubts += 1
        self._dead_at += now - self._asked_at  # nobody listened meanwhile
        given_up, self._given_up = self._given_up, None
        if isinstance(outcome, Fail):
            if not self._body_open or _is_final(outcome.error):
                return self._leave(given_up or outcome.error)
            self._doubt_later(now)
            self._reconcile_at = max(self._reconcile_at, now + asked_pause(outcome.error))
            return self._next(now, jitter)
        retries_used_up = 0 < self._policy.max_retries <= self._failures
        self._progress()
        self._doubt_later(now, outcome.value)
        execution = outcome.value["data"]
        if is_terminal(execution):
            self.execution = execution
            return self._end(terminal_event(execution))
        if given_up is not None and retries_used_up:
            self.state = "backing off"
            return Wait(self._reconcile_at - now)
        if not self._body_open:
            return self._fail(given_up or _no_stream())
        return self._next(now, jitter)

    # Opening, first and again

    def _open(self, now: float, jitter: float, *, first: bool = False) -> Action:
        self.state = "opening"
        resume = self._decoder.last_event_id
        call = CallMachine(
            self._events.source,
            self._context,
            self._token,
            stream=True,
            policy=None if first else ONCE,
            deadline=self._deadline,
            headers=(("Last-Event-ID", resume),) if is_token(resume) else (),
        )
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == "reconciling":
            return self._reconciled(outcome, now, jitter)
        if isinstance(outcome, Fail):
            return self._not_opened(outcome.error, now, jitter)
        if isinstance(outcome.value, ResponseHead):
            return self._begin(outcome.value, now, jitter)
        ask = self._events.reconcile
        if outcome.value.status_code == 204 and ask is not None:
            return self._reconcile(ask, now, jitter)
        return self._fail(
            StreamError(
                f"The server answered with status {outcome.value.status_code} and no event stream",
                status_code=outcome.value.status_code,
                request_id=outcome.value.request_id,
            )
        )

    def _begin(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self.request_id = head.headers.get("x-request-id")
        self._reset_clocks(now)
        if self._opened_before:
            for known in self._ids:
                _remember(self._earlier_ids, known)
            self.reconnects += 1
            self._queue.append({"type": "stream:reconnected", "attempt": self.reconnects})
        self._body_open = self._opened_before = True
        return self._next(now, jitter)

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if not self._opened_before or _is_final(error):
            return self._fail(error)
        return self._reconnect(error, now, jitter)

    def _reconnect(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        if not self._events.resumable:
            return self._fail(self._broken("this stream cannot be opened twice", cause))
        retry = self._decoder.retry
        verdict = self._policy.decide(
            self._failures,
            jitter,
            throttled=isinstance(cause, RateLimitError),
            retry_after=max(asked_pause(cause), (retry or 0) / 1000),
            remaining=None if self._deadline is None else self._deadline - now,
        )
        if isinstance(verdict, GiveUp):
            return self._give_up(verdict.reason, cause, now, jitter)
        self._failures += 1
        self._decoder = SseDecoder(self._decoder.last_event_id)
        self._decoder.retry = retry
        self.state = "backing off"
        return Wait(verdict.delay)

    def _give_up(
        self, reason: str, cause: Optional[Exception], now: float, jitter: float
    ) -> Action:
        if isinstance(cause, RateLimitError):
            cause.gave_up = reason
            return self._fail(cause)
        self._given_up = self._broken(reason, cause)
        ask = self._events.reconcile
        if ask is None or self._deadline is not None:  # who set the deadline asks by itself
            return self._fail(self._given_up)
        return self._reconcile(ask, now, jitter)

    def _broken(self, reason: str, cause: Optional[Exception]) -> StreamError:
        error = StreamError(
            f"The event stream was lost before its end and could not be resumed: {reason}",
            request_id=self.request_id,
        )
        error.__cause__ = cause
        return error


def _no_stream() -> StreamError:
    return StreamError("The server offers no event stream for this execution, which runs on")


def _remember(ids: Dict[str, None], one: str) -> None:
    """Add an id, and forget the oldest of too many."""
    ids[one] = None
    if len(ids) > REMEMBERED_IDS:
        del ids[next(iter(ids))]


def _is_final(error: Exception) -> bool:
    """Whether asking again would bring the same error."""
    return not may_pass(error) or asks_for_tomorrow(error)
