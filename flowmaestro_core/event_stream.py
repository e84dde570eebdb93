"""Following an event stream to its true end: decode, reconnect, reconcile."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any, Deque, Dict, FrozenSet, Generic, Optional, TypeVar, Union, cast

from flowmaestro_core.actions import Action, Close, Done, Emit, Fail, Read, Wait
from flowmaestro_core.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    Attempt,
    FlowMaestroError,
    RateLimitError,
    StreamError,
    TimeoutError,
)
from flowmaestro_core.events import event_from_sse, is_garbled_end, terminal_event
from flowmaestro_core.http import Phase, ResponseHead, TransportFailure
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.pacing import FIRST_POLL, paced, poll_delay
from flowmaestro_core.reply import Reply, asks_for_tomorrow, shown_request_id
from flowmaestro_core.retry import GiveUp
from flowmaestro_core.sse import ServerSentEvent, SseDecoder
from flowmaestro_core.streams import AsyncEventStream, EventStream
from flowmaestro_core.wait import ONCE, asked_pause, is_terminal, may_pass

E = TypeVar("E")

REMEMBERED_IDS = 1024
RECONCILE_BACKOFF = 1.5
LONGEST_PAUSE = 600.0
"""Seconds; a server that asks to reconnect later than that is not waited for."""
QUESTION_PATIENCE = 1.0
"""Seconds for an answer while a stream is open or lost; they double while none comes."""
REOPEN_PATIENCE = 1.0
"""Seconds that a reconnection has to be made, even if a question is due earlier."""


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
    for the execution itself; if that has ended, its terminal event is made from the answer. This
    clock runs on while a lost connection is made anew. *Bytes-idle*: not even a keepalive, so the
    connection is dead. A lost connection is made anew, at most `max_retries` times without
    progress in between (a live event, or an answer beside the open stream), and the gap is
    marked with `stream:reconnected`. Where that was in vain, and where the first connection
    fails for now, the execution is asked for once more: if it runs on, a stream that was open is
    tried again at leisure, as long as there is an answer. No such question follows what asking
    cannot mend: a refusal for good, a 429, an event too large. Who sets a `deadline` asks by
    itself.

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
        silent_poll: Optional[float] = None,
    ) -> None:
        """`opened`: the body is open already. `silent_poll`: as long as this connection has
        brought no live event, and while there is none, ask on the ramp of a wait with this
        interval, in seconds; no attempt to open may hold that up.
        """
        super().__init__()
        self._events = events
        self._context = context
        self._token = token
        self._body_open = self._opened_before = opened
        self._deadline = math.inf if deadline is None else deadline
        self._silent_poll = silent_poll
        self._decoder = SseDecoder()
        self._queue: Deque[Dict[str, Any]] = deque()
        self._terminal: Optional[Dict[str, Any]] = None
        self._error: Optional[FlowMaestroError] = None
        self._given_up: Optional[FlowMaestroError] = None
        self._offered = True
        self._lost: Optional[Attempt] = None
        self._ids: Dict[str, None] = {}
        self._earlier_ids: Dict[str, None] = {}
        self._live = False
        self._connected_shown = False
        self._started = 0.0
        self._failures = 0
        self._doubts = 0
        self._unanswered = 0
        self._handed_at = 0.0
        self._reopen_at = 0.0
        self._reconcile_at = 0.0
        self._not_before = -math.inf
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
        self._reset_clocks(now)
        return self._read(now) if self._body_open else self._open(now, jitter, first=True)

    @event
    def bytes_received(self, data: bytes, now: float, jitter: float) -> Action:
        self._dead_at = now + self._context.stream_times.bytes_idle
        try:
            decoded = self._decoder.feed(data)
        except StreamError as error:
            return self._leave(error)
        live = [self._take(sse) for sse in decoded]
        if any(live):
            self._live = True
            self._progress()
            self._reset_clocks(now)
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
        return self._reconnect(self._context.echoes.showable(failure), now, jitter)

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
        self._dead_at += now - self._handed_at  # nobody listened meanwhile
        self._reconcile_at += now - self._handed_at
        return self._next(now, jitter)

    def _take(self, sse: ServerSentEvent) -> bool:
        """Queue one decoded event, unless the caller has it already; whether it is a live one."""
        if sse.id:
            if sse.id in self._ids or sse.id in self._earlier_ids:
                return False
            _remember(self._ids, sse.id)
        item = event_from_sse(sse)
        if item["type"] == "connected":
            if not self._connected_shown:
                self._connected_shown = True
                self._queue.append(item)
            return False
        if self._events.reconcile is not None and is_garbled_end(item):
            self._ask_at_once = True
        else:
            self._queue.append(item)
        return True

    def _next(self, now: float, jitter: float) -> Action:
        """Emit what is queued; doubt a silence that lasts; else read on."""
        if self._queue:
            item = self._queue.popleft()
            self._handed_at = now
            return self._end(item) if item["type"] in self._events.terminal else self._emit(item)
        if now >= self._deadline:
            return self._leave(_late())
        if now >= self._question_at:
            return self._reconcile(now, jitter)
        return self._read(now)

    def _read(self, now: float) -> Action:
        self.state = "streaming"
        return Read(min(self._dead_at, self._question_at, self._deadline) - now)

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
        self._dead_at = now + self._context.stream_times.bytes_idle
        self._doubt_later(now)

    @property
    def _question_at(self) -> float:
        """When the execution is asked for next; never, where nothing can be asked."""
        if self._events.reconcile is None:
            return math.inf
        return self._not_before if self._ask_at_once else max(self._reconcile_at, self._not_before)

    @property
    def _patience(self) -> float:
        """Seconds by which a question is late so that a reconnection can bring what was missed."""
        return min(REOPEN_PATIENCE, self._context.stream_times.event_idle)

    def _doubt_later(self, now: float, asked: Optional[Reply[Any]] = None) -> None:
        """Set the time of the next question, ever later while nothing comes."""
        if self._silent_poll is not None and not self._live:
            delay = poll_delay(now - self._started, self._silent_poll)
        else:
            times = self._context.stream_times
            delay = times.event_idle * RECONCILE_BACKOFF ** min(self._doubts, 64)
            delay = min(delay, times.event_idle_max)
        self._reconcile_at = now + delay
        if asked is not None:
            self._not_before = now + paced(0.0, asked.rate_limit)

    # Asking for the execution itself

    def _reconcile(self, now: float, jitter: float) -> Action:
        self.state = "reconciling"
        self._asked_at = now
        self._ask_at_once = False
        patience = QUESTION_PATIENCE * 2.0 ** min(self._unanswered, 64)
        last = self._given_up is not None or not self._offered
        call = CallMachine(
            cast("Call[Any]", self._events.reconcile),
            self._context,
            self._token,
            policy=None if not self._offered and self._silent_poll is None else ONCE,
            deadline=self._deadline if last else min(self._deadline, now + patience),
        )
        return self._delegate(call, now, jitter)

    def _reconciled(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        self._doubts += 1
        self._dead_at += now - self._asked_at  # nobody listened meanwhile
        given_up, self._given_up = self._given_up, None
        if isinstance(outcome, Fail):
            self._unanswered += isinstance(outcome.error, TimeoutError)
            if given_up is not None or not self._offered or not may_pass(outcome.error):
                return self._leave(given_up or outcome.error)
            self._doubt_later(now)
            never = asks_for_tomorrow(outcome.error)
            self._not_before = math.inf if never else now + asked_pause(outcome.error)
            return self._go_on(now, jitter)
        self._unanswered = 0
        retries_used_up = 0 < self._context.retry_policy.max_retries <= self._failures
        if self._body_open or given_up is not None:
            self._progress()
        self._doubt_later(now, outcome.value)
        execution = outcome.value["data"]
        if is_terminal(execution):
            self.execution = execution
            return self._end(terminal_event(execution))
        if given_up is not None and retries_used_up:
            return self._back_off(self._question_at - now, given_up.__cause__, now, jitter)
        if given_up is not None or not self._offered:
            return self._fail(given_up or _no_stream())
        return self._go_on(now, jitter)

    def _go_on(self, now: float, jitter: float) -> Action:
        return self._next(now, jitter) if self._body_open else self._between(now, jitter)

    def _between(self, now: float, jitter: float) -> Action:
        """While no connection stands: open when that is due, ask when that is, else wait.

        Opening comes first where it is due soon, because it brings the events in between, too;
        but a run's questions wait for nothing.
        """
        if now >= self._deadline:
            return self._fail(_late())
        if now >= self._reopen_at and self._lost is None:
            return self._open(now, jitter)
        ask_at = self._question_at
        if self._reopen_at <= ask_at + (self._patience if self._silent_poll is None else 0.0):
            ask_at = self._reopen_at
        elif now >= ask_at:
            return self._reconcile(now, jitter)
        self.state = "backing off"
        lost, self._lost = self._lost, None
        until = min(ask_at, self._deadline)
        return Wait(max(until - now, 0.0), lost, reconnects=True)

    # Opening, first and again

    def _open(self, now: float, jitter: float, *, first: bool = False) -> Action:
        self.state = "opening"
        resume = self._decoder.last_event_id
        in_passing = self._silent_poll is not None or not first
        until = max(self._question_at, now + REOPEN_PATIENCE) if in_passing else math.inf
        call = CallMachine(
            self._events.source,
            self._context,
            self._token,
            stream=True,
            policy=ONCE if in_passing else None,
            deadline=min(self._deadline, until),
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
            return self._reconcile(now, jitter)
        return self._fail(
            StreamError(
                f"The server answered with status {outcome.value.status_code} and no event stream",
                status_code=outcome.value.status_code,
                request_id=shown_request_id(
                    outcome.value, outcome.value.headers, self._context.echoes
                ),
            )
        )

    def _begin(self, head: ResponseHead, now: float, jitter: float) -> Action:
        self.request_id = shown_request_id(None, head.headers, self._context.echoes)
        self._dead_at = now + self._context.stream_times.bytes_idle
        if self._opened_before:
            for known in self._ids:
                _remember(self._earlier_ids, known)
            self.reconnects += 1
            self._queue.append({"type": "stream:reconnected", "attempt": self.reconnects})
            soon = FIRST_POLL if self._silent_poll is not None else self._patience
            self._reconcile_at = max(self._reconcile_at, now + soon)
        else:
            self._doubt_later(now)
        self._body_open = self._opened_before = True
        return self._next(now, jitter)

    def _not_opened(self, error: FlowMaestroError, now: float, jitter: float) -> Action:
        if not may_pass(error) or asks_for_tomorrow(error):
            return self._fail(error)
        if self._opened_before or self._silent_poll is not None:
            return self._reconnect(error, now, jitter)
        return self._ask_last(error, error, now, jitter)

    def _reconnect(self, cause: Optional[Exception], now: float, jitter: float) -> Action:
        if not self._events.resumable:
            return self._fail(self._broken("this stream cannot be opened twice", cause))
        retry = self._decoder.retry
        throttled = isinstance(cause, RateLimitError)
        times, policy = self._context.stream_times, self._context.retry_policy
        policy = policy._replace(
            base_delay=times.reconnect_base,
            max_delay=times.reconnect_max,
            max_retry_after=policy.max_retry_after if throttled else LONGEST_PAUSE,
        )
        verdict = policy.decide(
            self._failures,
            jitter,
            throttled=throttled,
            retry_after=max(asked_pause(cause), (retry or 0) / 1000),
            remaining=self._deadline - now,
        )
        if isinstance(verdict, GiveUp):
            return self._give_up(verdict.reason, cause, now, jitter)
        self._failures += 1
        self._decoder = SseDecoder(self._decoder.last_event_id, retry=retry)
        self._live = False
        if self._silent_poll is not None:
            ramp = poll_delay(now - self._started, self._silent_poll)
            self._reconcile_at = min(self._reconcile_at, now + ramp)
        return self._back_off(verdict.delay, cause, now, jitter)

    def _back_off(
        self, seconds: float, cause: Optional[BaseException], now: float, jitter: float
    ) -> Action:
        self._reopen_at = now + seconds
        self._lost = Attempt(self._failures or 1, Phase.REPLY_BROKEN, delay=seconds)
        if isinstance(cause, FlowMaestroError) and cause.attempts:
            refused = cause.attempts[-1]
            self._lost = self._lost._replace(outcome=refused.outcome, code=refused.code)
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
        throttled = isinstance(cause, RateLimitError) or now < self._not_before
        if self._events.reconcile is None or throttled or self._deadline < math.inf:
            return self._fail(error)  # who set the deadline asks by itself
        self._given_up = error
        return self._reconcile(now, jitter)

    def _broken(self, reason: str, cause: Optional[Exception]) -> StreamError:
        error = StreamError(
            f"The event stream was lost before its end and could not be resumed: {reason}",
            request_id=self.request_id,
        )
        error.__cause__ = cause
        return error


def _no_stream() -> StreamError:
    return StreamError("The server offers no event stream for this execution, which runs on")


def _late() -> TimeoutError:
    return TimeoutError("The stream did not end in time")


def _remember(ids: Dict[str, None], one: str) -> None:
    """Add an id, and forget the oldest of too many."""
    ids[one] = None
    if len(ids) > REMEMBERED_IDS:
        del ids[next(iter(ids))]


def _fits_header(event_id: str) -> bool:
    """Whether a header field can bear the id as it is: ASCII, with no space at its ends."""
    return (
        bool(event_id)
        and event_id.isascii()
        and event_id.isprintable()
        and (event_id.strip() == event_id)
    )
