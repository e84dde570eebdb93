"""The calls in flight, and the time or event that each of them waits for.

All of it changes only while the clock's lock is held.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import Callable, Counter, Dict, Iterator, List, Optional, Tuple

from flowmaestro_transports.driving.event_loops import current_task

_Key = Tuple[int, object]


class InFlightCall:
    """A call in flight in one thread or task.

    `outer` is the call of the same thread or task that waits meanwhile; `None` for most calls. For
    example, a webhook receiver makes a call while the call that advanced time waits.
    """

    __slots__ = ("began", "depth", "key", "outer", "running")

    def __init__(self, key: _Key, outer: Optional[InFlightCall], began: float) -> None:
        self.key: _Key = key
        self.outer: Optional[InFlightCall] = outer
        self.began: float = began
        self.depth: int = 0
        self.running: bool = False


class CallsInFlight:
    """The calls in flight: one of each thread or task, besides the `outer` ones that wait."""

    def __init__(self) -> None:
        self.activity: int = 0
        """A counter that grows when a call begins, waits, continues or ends, or an alarm is set."""
        self._calls: Dict[_Key, InFlightCall] = {}
        self._running = Counter[int]()
        self._blocked = Counter[int]()

    def current(self) -> InFlightCall:
        """Return the current call of this thread or task. There must be one."""
        return self._calls[threading.get_ident(), current_task()]

    def enter(self, now: float) -> InFlightCall:
        """Enter a `with` block of `VirtualClock.in_flight`. Return its call.

        A block inside another one of the same thread or task belongs to the call of the outer
        block, unless that call waits. In all other cases, a new call begins at the time `now`.
        """
        key = threading.get_ident(), current_task()
        call = self._calls.get(key)
        if call is None or not call.running:
            call = self._calls[key] = InFlightCall(key, call, now)
            self.start(call)
        call.depth += 1
        return call

    def leave(self, call: InFlightCall) -> bool:
        """Leave a `with` block of `call`. Return True if it was the outermost: `call` has ended."""
        call.depth -= 1
        if call.depth:
            return False
        if call.running:
            self.stop(call)
        if call.outer is None:
            del self._calls[call.key]
        else:
            self._calls[call.key] = call.outer
        return True

    def start(self, call: InFlightCall) -> None:
        """Mark the call as running."""
        call.running = True
        self.activity += 1
        self._running[call.key[0]] += 1

    def stop(self, call: InFlightCall) -> None:
        """Mark the call as not running: it waits, or it has ended."""
        call.running = False
        self.activity += 1
        self._running[call.key[0]] -= 1

    def block(self, thread: int) -> None:
        """Mark a thread as blocked by a waiting call: the tasks of its event loop cannot run."""
        self._blocked[thread] += 1

    def unblock(self, thread: int) -> None:
        """Undo one call of `block`. The thread is blocked until each call of `block` is undone."""
        self._blocked[thread] -= 1

    def all_wait(self) -> bool:
        """Return whether no call in flight can run.

        A call cannot run while it waits, or while another call that waits blocks its thread.
        """
        return all(self._blocked[thread] for thread, calls in self._running.items() if calls)


class Alarm:
    """The time or event at which a waiting call continues; or the time of a `call_later`.

    The clock calls `wake` when the alarm fires. It may call the `wake` of a waiting call before
    that, so that the call advances time.
    """

    __slots__ = ("at", "blocks", "call", "fired", "wake")

    def __init__(
        self, at: float, call: Optional[InFlightCall], wake: Callable[[], object] = lambda: None
    ) -> None:
        self.at: float = at
        self.call: Optional[InFlightCall] = call
        self.wake: Callable[[], object] = wake
        self.fired: bool = False
        self.blocks: Optional[int] = None


class Alarms:
    """The alarms that have not fired, in the order of time."""

    def __init__(self) -> None:
        self._order = itertools.count()
        self._agenda: List[Tuple[float, int, Alarm]] = []

    def add(self, alarm: Alarm) -> None:
        """Add an alarm."""
        heapq.heappush(self._agenda, (alarm.at, next(self._order), alarm))

    def first(self) -> Optional[Alarm]:
        """Return the alarm whose time comes first; `None` if there is none."""
        while self._agenda and self._agenda[0][2].fired:
            heapq.heappop(self._agenda)
        return self._agenda[0][2] if self._agenda else None

    def due(self, now: float) -> Iterator[Alarm]:
        """Yield the alarms that are due at `now`.

        The caller must fire each one before the next is requested. Otherwise the same one is
        yielded again.
        """
        while True:
            alarm = self.first()
            if alarm is None or alarm.at > now:
                return
            yield alarm

    def any_with_call(self) -> Optional[Alarm]:
        """Return one of the alarms that a call waits for and that have not fired, or `None`."""
        alarms = (alarm for _, _, alarm in self._agenda)
        return next((alarm for alarm in alarms if alarm.call and not alarm.fired), None)
