"""Many executions at once, each handed over as it ends, by one machine and without threads."""

from __future__ import annotations

import copy
import heapq
import math
from collections import deque
from dataclasses import dataclass
from typing import (
    Any,
    Callable,
    Deque,
    Iterable,
    List,
    Optional,
    Tuple,
    Union,
)

from flowmaestro_core.actions import Action, Done, Emit, Fail, Wait
from flowmaestro_core.calls.call import Call, CallMachine
from flowmaestro_core.context import Context
from flowmaestro_core.errors import (
    FlowMaestroError,
    RateLimitError,
    TimeoutError,
    ValidationError,
)
from flowmaestro_core.executions.run import no_usable_id
from flowmaestro_core.executions.wait import NO_TIME_FOR_PAUSE, Poll, PollState, asked_pause
from flowmaestro_core.machine import Machine, event
from flowmaestro_core.operation import Operation
from flowmaestro_core.payloads.reply import Reply, asks_for_tomorrow
from flowmaestro_core.policy.polling import AdaptiveTimeout, paced, poll_delay
from flowmaestro_core.streams.handles import AsyncItems, SyncItems
from flowmaestro_core.types import Execution

PAUSE_AFTER_REFUSAL = 1.0
"""Seconds until a start is tried again that was refused with a 429 without `Retry-After`."""


@dataclass(frozen=True)
class Batch(Operation[SyncItems[Execution], AsyncItems[Execution]]):
    """Follow many executions to their ends.

    Attributes:
        waiting: builds the wait for one execution, given its id.
        timeout: seconds that each execution may take; also, that each start may be put off.
        execution_ids: what runs already. All of it is in flight from the beginning.
        starts: builders of calls that start one execution each; what they raise is an error of
            that one alone. Read only while there is room, so it may be endless.
        concurrency: how many executions may be in flight before another one is started.
        return_exceptions: hand errors over, too, instead of raising the first one at the end.
        listener: called with each item as it is handed over.

    """

    waiting: Callable[[str], Poll]
    timeout: float
    execution_ids: Tuple[str, ...] = ()
    starts: Iterable[Callable[[], Call[Any]]] = ()
    concurrency: int = 1
    return_exceptions: bool = False
    listener: Optional[Callable[[Any], Any]] = None

    def machine(self, context: Context, token: str) -> BatchMachine:
        """A machine that emits each execution once."""
        return BatchMachine(self, context, token)


class ProgressCounter:
    """A listener that counts what it hears, and tells `progress` how much of `total` is done."""

    def __init__(self, progress: Callable[[int, Optional[int]], Any], total: Optional[int]) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def __call__(self, item: Any) -> Any:
        """Count one more; what `progress` returned, to be awaited if it can be."""
        self._done += 1
        return self._progress(self._done, self._total)


@dataclass(frozen=True)
class _Start:
    """An execution to be started, before the time `until`."""

    call: Call[Any]
    token: str
    until: float


class BatchMachine(Machine[None]):
    """Starts executions while there is room, asks for each in its turn, emits what has ended.

    Requests go out one after another, so that a key's rate limit is spent in one place: its
    headers stretch the pauses, and a 429 holds everything back. A start that was refused with
    a 429 has started nothing and is tried again; after any other failure it is not.

    None waits long for another: while there are others a question is given up soon, and asked
    again later with more patience, and a start that is to be tried again does so in its turn.
    A start itself is waited for, since it must not be sent twice.

    No execution times out unasked: the last question comes at its deadline, or as soon after it
    as the rate limit allows. After an error that is to be raised nothing more is started, and
    what is in flight is followed to its end first: its results are not lost.
    """

    TRANSITIONS = {
        "ready": {"start": ("starting", "asking", "emitting", "done", "failed")},
        "starting": {
            "response_received": ("starting", "asking", "pausing", "emitting", "failed"),
            "transport_failed": ("asking", "pausing", "emitting", "failed"),
        },
        "asking": {
            "response_received": ("starting", "asking", "pausing", "emitting", "failed"),
            "transport_failed": ("starting", "asking", "pausing", "emitting", "failed"),
        },
        "pausing": {"waited": ("starting", "asking", "pausing", "emitting", "failed")},
        "emitting": {"emitted": ("starting", "asking", "pausing", "emitting", "done", "failed")},
    }

    def __init__(self, many: Batch, context: Context, token: str) -> None:
        super().__init__()
        self._many = many
        self._context = context
        self._token = token
        self._starts = enumerate(many.starts)
        self._more = True
        self._upcoming: Optional[_Start] = None
        self._put_off: Optional[Machine[Any]] = None
        """The call of the upcoming start, if it has been tried and is to be tried again."""
        self._start_at = -math.inf
        self._flights: List[Tuple[float, int, PollState]] = []
        """A heap: when to ask, a number that settles ties, what to ask for."""
        self._boarded = 0
        self._asked: Optional[PollState] = None
        self._asked_at = 0.0
        self._patience = AdaptiveTimeout(most_doublings=3)
        self._ended: Deque[Any] = deque()
        self._error: Optional[FlowMaestroError] = None
        self._not_before = self._no_start_before = -math.inf
        self._refusal: Optional[FlowMaestroError] = None
        self._unreadable: Optional[Exception] = None

    @event
    def start(self, now: float, jitter: float) -> Action:
        for execution_id in self._many.execution_ids:
            self._follow(PollState(self._many.waiting(execution_id), now), now)
        return self._next(now, jitter)

    @event
    def waited(self, now: float, jitter: float) -> Action:
        return self._next(now, jitter)

    @event
    def emitted(self, now: float, jitter: float) -> Action:
        return self._next(now, jitter)

    def _next(self, now: float, jitter: float) -> Action:
        """Hand over what has ended; else start or ask what is due; else wait for it."""
        if not self._ended and self._has_room():
            self._read_on(now)
        if self._ended:
            self.state = "emitting"
            return Emit(self._ended.popleft())
        start = self._upcoming
        if start is None and not self._flights:
            return self._end()
        start_at, ask_at = self._due()
        if min(start_at, ask_at) > now:
            self.state = "pausing"
            return Wait(min(start_at, ask_at) - now)
        if start is None or start_at > now:
            return self._ask(now, jitter)
        if now >= start.until:
            self._forget_start()
            self._miss(_not_in_time(self._many.timeout))
            return self._next(now, jitter)
        return self._begin(start, now, jitter)

    def _due(self) -> Tuple[float, float]:
        """When a start and a question may go out; never, if there is none."""
        start_at = math.inf if self._upcoming is None else self._start_at
        ask_at = self._flights[0][0] if self._flights else math.inf
        return max(start_at, self._not_before), max(ask_at, self._not_before)

    def _has_room(self) -> bool:
        free = self._upcoming is None and len(self._flights) < self._many.concurrency
        return self._more and free

    def _read_on(self, now: float) -> None:
        """Get the next execution to be started, if there is one."""
        nothing = 0, None
        try:
            index, build = next(self._starts, nothing)
        except Exception as error:  # of the caller's own iterator
            self._unreadable = error
            index, build = nothing
        if build is None:
            self._more = False
            return
        try:
            call = build()
        except (TypeError, ValueError) as cause:
            self._miss(_bad_input(index, cause))
            return
        until = now + self._many.timeout
        if self._refusal is not None and self._no_start_before > until:
            self._miss(copy.copy(self._refusal))
        else:
            self._upcoming = _Start(call, f"{self._token}-{index}", until)

    def _end(self) -> Action:
        if self._unreadable is not None:
            self.state = "failed"
            raise self._unreadable
        return self._done(None) if self._error is None else self._fail(self._error)

    def _begin(self, start: _Start, now: float, jitter: float) -> Action:
        self.state = "starting"
        if self._put_off is not None:
            self._inner, self._put_off = self._put_off, None
            return self._pass_on(self._inner.waited(now, jitter), now, jitter)
        call = CallMachine(start.call, self._context, start.token, deadline=start.until)
        return self._delegate(call, now, jitter)

    def _pass_on(self, action: Action, now: float, jitter: float) -> Action:
        if not isinstance(action, Wait):
            return super()._pass_on(action, now, jitter)
        # A start is to be tried again: the others need not wait for that.
        self._put_off, self._inner = self._inner, None
        self._start_at = now + action.seconds
        if action.because is not None and action.because.outcome == 429:
            self._hold(action.seconds, now)
        self.state = "pausing"
        return Wait(max(min(self._due()) - now, 0.0), action.because)

    def _ask(self, now: float, jitter: float) -> Action:
        self.state = "asking"
        self._asked = watch = heapq.heappop(self._flights)[-1]
        self._asked_at = now
        alone = not self._flights and self._upcoming is None
        patience = math.inf if alone else self._patience.seconds(watch.unanswered)
        question = watch.question(self._context, self._token, now, patience)
        return self._delegate(question, now, jitter)

    def _inner_ended(self, outcome: Union[Done, Fail], now: float, jitter: float) -> Action:
        if isinstance(outcome, Done):
            self._hold(paced(0.0, outcome.value.rate_limit), now)
        watch, self._asked = self._asked, None
        if watch is not None:
            self._answered(watch, outcome, now)
        elif isinstance(outcome, Done):
            self._started(outcome.value, now)
        else:
            self._not_started(outcome.error, now)
        return self._next(now, jitter)

    def _forget_start(self) -> None:
        self._upcoming = self._put_off = None
        self._start_at = -math.inf

    def _started(self, reply: Reply[Any], now: float) -> None:
        self._forget_start()
        try:
            waiting = self._many.waiting(reply["data"].get("execution_id"))
        except (TypeError, ValueError) as cause:
            self._miss(self.scrubber.clean(no_usable_id(reply, cause)))
        else:
            self._follow(PollState(waiting, now), now + poll_delay(0.0, waiting.poll_interval))

    def _not_started(self, error: FlowMaestroError, now: float) -> None:
        start, refused = self._upcoming, _refused_for(error)
        if start is not None and refused is not None:
            pause = refused or PAUSE_AFTER_REFUSAL
            self._refusal, self._no_start_before = error, now + pause
            if pause < math.inf:
                self._hold(pause, now)
                if refused:
                    error.gave_up = NO_TIME_FOR_PAUSE
            if now + pause <= start.until:
                return
        self._forget_start()
        self._miss(error)

    def _answered(self, watch: PollState, answer: Union[Done, Fail], now: float) -> None:
        took, lost = now - self._asked_at, 0.0
        if isinstance(answer, Done):
            self._patience.answered(took)
        elif isinstance(answer.error, TimeoutError):
            self._patience.ran_out()
            lost = took  # others come first for as long
        verdict = watch.judge(answer, now)
        if isinstance(verdict, Done):
            self._ended.append(verdict.value)
        elif isinstance(verdict, Fail):
            self._miss(verdict.error)
            self._end_all_without_time(verdict.error, now)
        else:
            self._follow(watch, min(now + max(verdict.seconds, lost), watch.deadline))
            if isinstance(answer, Fail) and asked_pause(answer.error):
                self._hold(verdict.seconds, now)

    def _end_all_without_time(self, error: FlowMaestroError, now: float) -> None:
        """A 429 is about the key: it ends every wait that its pause does not fit into."""
        pause = _refused_for(error)
        if not pause:
            return
        flights, self._flights = self._flights, []
        for flight in flights:
            watch = flight[-1]
            if now + pause <= watch.deadline:
                self._flights.append(flight)
            else:
                self._miss(watch.give_up(copy.copy(error)).error)
        heapq.heapify(self._flights)
        if self._flights:
            self._hold(pause, now)

    def _follow(self, watch: PollState, ask_at: float) -> None:
        self._boarded += 1
        heapq.heappush(self._flights, (ask_at, self._boarded, watch))

    def _miss(self, error: FlowMaestroError) -> None:
        """Something went wrong with one execution; the others go on."""
        if self._many.return_exceptions:
            self._ended.append(error)
        elif self._error is None:
            self._error = error
            self._more = False
            self._forget_start()

    def _hold(self, seconds: float, now: float) -> None:
        """Send nothing for so long."""
        self._not_before = max(self._not_before, now + seconds)


def _not_in_time(timeout: float) -> TimeoutError:
    return TimeoutError(f"The execution could not be started within {timeout:g}s, and was not")


def _refused_for(error: FlowMaestroError) -> Optional[float]:
    """Seconds for which the server refuses the key; `None` when that is not the trouble."""
    if not isinstance(error, RateLimitError):
        return None
    return math.inf if asks_for_tomorrow(error) else asked_pause(error)


def _bad_input(index: int, cause: Exception) -> ValidationError:
    error = ValidationError(f"inputs[{index}] cannot be sent: {cause}", "invalid_input")
    error.status_code = None  # nothing was sent, so nobody answered
    error.__cause__ = cause
    return error
