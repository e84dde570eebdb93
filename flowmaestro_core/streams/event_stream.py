"""Following an event stream to its true end: decode, reconnect, reconcile."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, FrozenSet, Generic, Optional, TypeVar, Union, cast

from flowmaestro_core.actions import LEAST_PATIENCE, Action, Close, Done, Emit, Fail, Read, Wait
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    FlowMaestroError,
    RateLimitError,
    StreamError,
    TimeoutError,
)
from flowmaestro_core.executions.wait import ONCE, is_terminal, may_pass
from flowmaestro_core.http.messages import ResponseHead, TransportFailure
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.payloads.reply import asks_for_tomorrow, shown_request_id
from flowmaestro_core.policy.polling import PollSchedule
from flowmaestro_core.streams.events import event_from_sse, is_garbled_end, terminal_event
from flowmaestro_core.streams.handles import AsyncEventStream, EventStream
from flowmaestro_core.streams.reconnections import Reconnections
from flowmaestro_core.streams.seen_ids import SeenIds
from flowmaestro_core.streams.silence import Silence
from flowmaestro_core.streams.sse import ServerSentEvent, SseDecoder

LAST_WORDS = 0.02
"""Seconds of silence after which the stream of an execution that has ended has said all."""
HEARD_OUT = 1.0
"""Seconds after which it is believed to have, even if more comes."""

E = TypeVar("E")


@dataclass(frozen=True)
class Events(Operation[EventStream[E], AsyncEventStream[E]], Generic[E]):
    """The events of one execution or thread.

    Attributes:
        source: the call that opens the stream.
        terminal: the types of the events after which there is none.
        unrepeated: the types of others that are new whatever their ids.
        reconcile: the call that tells whether the execution has ended, where there is one.
        resumable: whether opening the source again does no harm.
        execution_id: the execution whose events they are; an error names it.
        timeout: seconds from the first request to the end of the stream; `None` for no limit.

    """

    source: Call[Any]
    terminal: FrozenSet[str] = frozenset()
    unrepeated: FrozenSet[str] = frozenset()
    reconcile: Optional[Call[Any]] = None
    resumable: bool = True
    execution_id: Optional[str] = None
    timeout: Optional[float] = None

    def machine(self, context: Context, token: str) -> EventStreamMachine:
        """A machine that emits the events."""
        return EventStreamMachine(self, context, token)


class EventStreamMachine(Machine[Any]):
    """Emits events until a terminal one, and ends in no other way but an error.

    A quiet stream is doubted (`Silence`): the execution itself is asked for, and if that has
    ended, the stream is heard out and its terminal event, unless it came, is made from the
    answer; or the connection is taken for dead. A lost connection is made anew, for
    `reconnect_for` seconds without a live event or an answer, and the gap is marked with
    `stream:reconnected`. Where that was in vain, and where
    the first connection fails for now, the execution is asked for once more: if it runs on, a
    stream that was open is tried again at leisure, as long as there is an answer. No such
    question follows what asking cannot mend: a refusal for good, a 429, an event too large. A run
    asks by itself.

    The connection is closed before a terminal event is emitted. `last_seen` is what the
    last answer said of the execution.
    """

    TRANSITIONS = {
        "ready": {"start": ("opening", "streaming")},
        "opening": {
            "stream_opened": ("opening", "streaming", "emitting", "reconciling", "closing"),
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
            "emitted": ("emitting", "streaming", "hearing out", "reconciling", "closing", "done"),
        },
        "hearing out": {
            "bytes_received": ("hearing out", "emitting", "closing"),
            "stream_quiet": ("closing",),
            "stream_ended": ("emitting",),
            "transport_failed": ("emitting",),
        },
        "reconciling": {
            "response_received": (
                "reconciling",
                "streaming",
                "hearing out",
                "closing",
                "emitting",
                "backing off",
                "opening",
                "failed",
            ),
            "transport_failed": (
                "reconciling",
                "streaming",
                "closing",
                "backing off",
                "opening",
                "failed",
            ),
            "waited": ("reconciling",),
        },
        "closing": {"stream_closed": ("emitting", "reconciling", "backing off", "failed")},
        "backing off": {"waited": ("opening", "reconciling", "backing off", "failed")},
    }

    def __init__(
        self,
        events: Events[Any],
        context: Context,
        token: str,
        *,
        opened: bool = False,
        deadline: Optional[float] = None,
        schedule: Optional[PollSchedule] = None,
    ) -> None:
        """`opened`: the body is open already. `schedule`: as long as this connection has brought no
        live event, and while there is none, ask on it; no attempt to open may hold that up.
        """
        super().__init__()
        self._events = events
        self.execution_id = events.execution_id
        self._context = context
        self._token = token
        self._body_open = self._opened_before = opened
        self._deadline = math.inf if deadline is None else deadline
        self._in_run = schedule is not None
        self._silence = Silence(
            context.stream_times, can_ask=events.reconcile is not None, schedule=schedule
        )
        self._decoder = SseDecoder()
        self._queue: Deque[Dict[str, Any]] = deque()
        self._learned: Optional[Dict[str, Any]] = None
        self._heard_out_at = 0.0
        self._terminal: Optional[Dict[str, Any]] = None
        self._error: Optional[FlowMaestroError] = None
        self._given_up: Optional[FlowMaestroError] = None
        self._offered = True
        self._reconnections = Reconnections(context.stream_times)
        self._seen = SeenIds()
        self._unrepeated = events.terminal | events.unrepeated
        self._connected_shown = False
        self._handed_at = 0.0
        self.reconnects = 0
        self.request_id: Optional[str] = None
        self.last_seen: Optional[Dict[str, Any]] = None

    @property
    def last_event_id(self) -> str:
        """The id that a reconnection resumes from; `""` when the server sends none."""
        return self._seen.resume_from(self._decoder.last_event_id)

    @property
    def execution(self) -> Optional[Dict[str, Any]]:
        """The ended execution, when it was learned by asking."""
        return self.last_seen if self._learned is not None else None

    @property
    def _is_known(self) -> bool:
        """Whether the server has shown that it speaks this API."""
        return self._opened_before or self.last_seen is not None

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        return self._terminal is not None and self.state in ("emitting", "done")

    @event
    def start(self, now: float, jitter: float) -> Action:
        if self._events.timeout is not None:
            self._deadline = now + self._events.timeout
        self._silence.begins(now)
        return self._next(now, jitter) if self._body_open else self._open(now, jitter, first=True)

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        self._silence.broken_by_bytes(now)
        try:
            decoded = self._decoder.feed(data)
        except StreamError as error:
            return self._leave(error)
        live = [self._take(sse, now) for sse in decoded]
        if any(live):
            self._reconnections.bore_fruit()
            self._silence.broken_by_event(now)
        return self._next(now, jitter)

    @event
    def stream_quiet(self, now: float, jitter: float) -> Action:
        if self._learned is not None:
            return self._end(self._learned)
        if now >= self._silence.dead_at:
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
        return self._between(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        if self._terminal is not None:
            return self._done(self._terminal)
        self._silence.unheard(now - self._handed_at)
        self._heard_out_at += now - self._handed_at
        return self._next(now, jitter)

    def _take(self, sse: ServerSentEvent, now: float) -> bool:
        """Queue one decoded event, unless the caller has it already; whether it is a live one."""
        item = event_from_sse(sse)
        if sse.id and item["type"] not in self._unrepeated and not self._seen.is_new(sse.id):
            return False
        if item["type"] == "connected":
            if is_terminal(item):
                self._silence.ask_at_once(now)
            if not self._connected_shown:
                self._connected_shown = True
                self._queue.append(item)
            return False
        if self._events.reconcile is not None and is_garbled_end(item):
            self._silence.ask_at_once(now)
            return False
        self._queue.append(item)
        return True

    def _next(self, now: float, jitter: float) -> Action:
        """Emit what is queued; doubt a silence that lasts; else read on."""
        if self._queue:
            item = self._queue.popleft()
            self._handed_at = now
            return self._end(item) if item["type"] in self._events.terminal else self._emit(item)
        if self._learned is not None:
            return self._hear_out(self._learned, now)
        if now >= self._deadline:
            return self._leave(self._late())
        question_at = self._silence.question_at
        if now >= question_at:
            return self._reconcile(now, jitter)
        self.state = "streaming"
        patience = min(self._silence.dead_at, question_at, self._deadline) - now
        return Read(patience, least=min(LEAST_PATIENCE, self._deadline - now))

    def _hear_out(self, learned: Dict[str, Any], now: float) -> Action:
        """Read what came while the execution was asked for, then emit its end."""
        if now >= self._heard_out_at:
            return self._end(learned)
        self.state = "hearing out"
        return Read(min(LAST_WORDS, self._heard_out_at - now))

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

    # Asking for the execution itself

    def _reconcile(self, now: float, jitter: float) -> Action:
        self.state = "reconciling"
        patience = self._silence.asks(now)
        last = self._given_up is not None or not self._offered
        call = CallMachine(
            cast("Call[Any]", self._events.reconcile),
            self._context,
            self._token,
            policy=None if not self._offered and not self._in_run else ONCE,
            deadline=self._deadline if last else min(self._deadline, now + patience),
        )
        return self._delegate(call, now, jitter)

    def _reconciled(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        given_up, self._given_up = self._given_up, None
        if isinstance(outcome, Fail):
            self._silence.not_answered(outcome.error, now)
            passes = may_pass(outcome.error, known=self._is_known)
            if given_up is not None or not self._offered or not passes:
                return self._leave(given_up or outcome.error)
            return self._go_on(now, jitter)
        self._silence.answered(outcome.value.rate_limit, now)
        used_up = self._reconnections.used_up
        if self._body_open or given_up is not None:
            self._reconnections.bore_fruit()
        self._reconnections.server_answers()
        self.last_seen = execution = outcome.value["data"]
        if is_terminal(execution):
            self._learned = terminal_event(execution)
            self._heard_out_at = now + HEARD_OUT
            return self._next(now, jitter) if self._body_open else self._end(self._learned)
        if given_up is not None and used_up:
            pause = self._silence.question_at - now
            self._reconnections.put_off(pause, given_up.__cause__, now)
            return self._between(now, jitter)
        if given_up is not None or not self._offered:
            return self._fail(given_up or _no_stream())
        return self._go_on(now, jitter)

    def _go_on(self, now: float, jitter: float) -> Action:
        return self._next(now, jitter) if self._body_open else self._between(now, jitter)

    def _between(self, now: float, jitter: float) -> Action:
        """While no connection stands: open when that is due, ask when that is, else wait."""
        if now >= self._deadline:
            return self._fail(self._late())
        ask_at, open_at = self._silence.question_at, max(now, self._reconnections.due_at)
        opens_first = self._offered and self._silence.lets_open(open_at)
        if self._reconnections.lost is None and opens_first and now >= open_at:
            return self._open(now, jitter)
        if not opens_first and now >= ask_at:
            return self._reconcile(now, jitter)
        self.state = "backing off"
        until = min(open_at if opens_first else ask_at, self._deadline)
        return Wait(until - now, self._reconnections.tell(), reconnects=True)

    # Opening, first and again

    def _open(self, now: float, jitter: float, *, first: bool = False) -> Action:
        self.state = "opening"
        resume = self._decoder.last_event_id
        in_passing = self._in_run or not first
        until = self._silence.opens(now)
        call = CallMachine(
            self._events.source,
            self._context,
            self._token,
            stream=True,
            policy=ONCE if in_passing else None,
            deadline=min(self._deadline, until if in_passing else math.inf),
            headers=(("Last-Event-ID", resume),) if _fits_header(resume) else (),
        )
        return self._delegate(call, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if self.state == "reconciling":
            return self._reconciled(outcome, now, jitter)
        if isinstance(outcome, Fail):
            return self._not_opened(outcome.error, now, jitter)
        if isinstance(outcome.value, ResponseHead):
            return self._begin(outcome.value, now, jitter)
        if outcome.value.status_code == 204 and self._events.reconcile is not None:
            self._offered = False
            at_once = self._silence.lets_ask(now)
            return self._reconcile(now, jitter) if at_once else self._between(now, jitter)
        return self._fail(
            StreamError(
                f"The server answered with status {outcome.value.status_code} and no event stream",
                status_code=outcome.value.status_code,
                request_id=outcome.value.request_id,
            )
        )

    def _begin(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(None, head.headers, self._context.scrubber)
        self._silence.opened(now, again=self._opened_before)
        if self._opened_before:
            self._seen.reconnected()
            self.reconnects += 1
            self._queue.append({"type": "stream:reconnected", "attempt": self.reconnects})
        self._body_open = self._opened_before = True
        return self._next(now, jitter)

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if now >= self._deadline:
            return self._fail(self._late())
        self._silence.not_opened(error, now)
        if not may_pass(error, known=self._is_known) or asks_for_tomorrow(error):
            return self._fail(error)
        if self._opened_before or self._in_run:
            return self._reconnect(error, now, jitter)
        return self._ask_last(error, error, now, jitter)

    def _reconnect(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        if self._learned is not None:
            return self._end(self._learned)
        if not self._events.resumable:
            return self._fail(self._broken("this stream cannot be opened twice", cause))
        retry = self._decoder.retry
        reason = self._reconnections.plan(cause, retry=retry, now=now, jitter=jitter)
        if reason is not None:
            return self._give_up(reason, cause, now, jitter)
        self._decoder = SseDecoder(self.last_event_id, retry=retry)
        self._silence.lost(now)
        return self._between(now, jitter)

    def _give_up(
        self, reason: str, cause: Optional[Exception], now: float, jitter: float
    ) -> Action:
        if isinstance(cause, RateLimitError):
            cause.gave_up = reason
            return self._fail(cause)
        return self._ask_last(self._broken(reason, cause), cause, now, jitter)

    def _ask_last(
        self, error: FlowMaestroError, cause: Optional[Exception], now: float, jitter: float
    ) -> Action:
        """Fail with `error`, unless asking once more tells better."""
        throttled = isinstance(cause, RateLimitError) or self._silence.forbids_asking(now)
        if self._events.reconcile is None or throttled or self._in_run:
            return self._fail(error)  # a run asks by itself
        self._given_up = error
        return self._reconcile(now, jitter)

    def _late(self) -> TimeoutError:
        whose = f" of execution {self.execution_id}" if self.execution_id else ""
        return TimeoutError(f"The event stream{whose} did not end in time")

    def _fail(self, error: FlowMaestroError) -> Action:
        error.execution_id = self.execution_id
        return super()._fail(error)

    def _broken(self, reason: str, cause: Optional[Exception]) -> StreamError:
        error = StreamError(
            f"The event stream was lost before its end and could not be resumed: {reason}",
            request_id=self.request_id,
        )
        error.__cause__ = cause
        return error


def _no_stream() -> StreamError:
    return StreamError("The server offers no event stream for this execution, which runs on")


def _fits_header(event_id: str) -> bool:
    """Whether a header field can bear the id as it is: ASCII, with no space at its ends."""
    return (
        bool(event_id)
        and event_id.isascii()
        and event_id.isprintable()
        and (event_id.strip() == event_id)
    )
