"""Virtual time: it stands still while any call runs, and jumps when every call waits.

A user of the clock registers every call in flight and everything that the call waits for. Once
every call in flight waits, time jumps to the first moment at which one of them continues. Nothing
sleeps and no timer is set: threads block on a condition, tasks on an event.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from contextlib import contextmanager, suppress
from typing import (
    TYPE_CHECKING,
    Callable,
    Counter,
    Dict,
    Generator,
    List,
    Optional,
    Protocol,
    Tuple,
)

from flowmaestro.testing.checks import check_function, check_seconds
from flowmaestro_transports.driving.event_loops import EventLoop, current_task, running_loop

if TYPE_CHECKING:
    from anyio import Event

SETTLING = 5
"""How often the tasks of an event loop may run, without making a call, before time jumps."""
SETTLING_ROUNDS = 20
"""How often that starts again because one of them did make a call."""
LONGEST_CALL = 30 * 86_400.0
"""Seconds after which a call that goes on asking is taken to wait for what never comes."""
ROUNDING = 1e-6
"""Seconds by which two ways of adding up the same time may differ."""

_Key = Tuple[int, object]


class World(Protocol):
    """What lives by a clock. `lock` guards both."""

    @property
    def lock(self) -> threading.RLock:
        """Held whenever the world or its clock changes."""
        ...

    @property
    def now(self) -> float:
        """Where time last was; later than the clock only if somebody else moves it, too."""
        ...

    def next_time(self) -> Optional[float]:
        """When something happens of itself; `None` for never."""
        ...

    def live_until(self, now: float) -> None:
        """Let everything happen that is due by `now`."""
        ...


class Source(Protocol):
    """Something to wait for: it calls `wake` when there is news."""

    wake: Callable[[], None]


class VirtualClock:
    """Seconds that pass in no time at all.

    Time advances when every call in flight waits, to where the first of them goes on. What a
    task or thread does between two calls does not count, so time may pass meanwhile; before it
    does, the other tasks of an event loop may run a few times. A thread that blocks in a call
    holds up the tasks of its event loop, which then do not count either.

    `start` is the first moment; `world` is what lives by this clock, if anything does. Safe to
    use from several threads and event loops at once.
    """

    def __init__(self, start: float = 0.0, world: Optional[World] = None) -> None:
        self.lock = threading.RLock() if world is None else world.lock
        self._now = start
        self._world = world
        self._order = itertools.count()
        self._agenda: List[Tuple[float, int, Alarm]] = []
        self._calls: Dict[_Key, _Call] = {}
        self._running = Counter[int]()
        self._blocked = Counter[int]()
        self._activity = 0

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now}>"

    @property
    def now(self) -> float:
        """Seconds since an arbitrary moment; they never run backwards."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, as a call in flight that waits for so long.

        What was to happen meanwhile happens, each thing at its own time. Raises `ValueError` if
        they are negative or without an end.
        """
        check_seconds("seconds", seconds)
        with self.in_flight():
            self.wait(self.alarm(self._now + seconds))

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call `function` in `seconds`, in the thread or task that moves time then.

        It may make calls of its own, but not wait for another thread that makes some: time
        stands still meanwhile. Raises `ValueError` for seconds that are negative or without an
        end, and `TypeError` for what cannot be called, or would have to be awaited.
        """
        check_seconds("seconds", seconds)
        check_function("function", function)
        with self.lock:
            self._plan(Alarm(self._now + seconds, None, function))

    def catch_up(self) -> None:
        """Let everything happen in the world that is due."""
        if self._world is not None:
            self._world.live_until(self._now)

    @contextmanager
    def in_flight(self) -> Generator[None, None, None]:
        """A `with` block in which the calling task or thread has a call in flight.

        Blocks of one task or thread may lie within each other; they are one call.
        """
        with self.lock:
            if self._world is not None and self._world.now > self._now + ROUNDING:
                self._now = self._world.now
            key = threading.get_ident(), current_task()
            call = self._calls.get(key)
            if call is None or not call.running:
                call = self._calls[key] = _Call(key, call, self._now)
                self._start(call)
            call.depth += 1
        try:
            yield
        finally:
            with self.lock:
                call.depth -= 1
                if call.depth == 0:
                    if call.running:
                        self._stop(call)
                    if call.outer is None:
                        del self._calls[key]
                    else:
                        self._calls[key] = call.outer
                    self._nudge()

    def alarm(self, at: float, source: Optional[Source] = None) -> Alarm:
        """Have the calling task's call in flight wait until `at`, or until `source` has news.

        Look whether there are any, and set the alarm, under one hold of `lock`; then `wait` for
        it, or `wait_async`. Raises `ValueError` for a wait without an end, and
        `AssertionError` for a call that has gone on for `LONGEST_CALL`: in virtual time, a
        call that never ends would keep a processor busy without end.
        """
        if not math.isfinite(at):
            raise ValueError(f"a wait must come to an end, not last until {at}")
        with self.lock:
            call = self._calls[threading.get_ident(), current_task()]
            if self._now - call.began > LONGEST_CALL:
                raise AssertionError(
                    f"a call has gone on for {LONGEST_CALL / 3600:.0f} hours of virtual time; does "
                    "it wait, without a time limit, for something that never comes?"
                )
            alarm = Alarm(at, call, nobody)
            if source is not None:
                source.wake = lambda: self._ring(alarm)
            self._stop(call)
            self._plan(alarm)
            return alarm

    def wait(self, alarm: Alarm) -> None:
        """Block this thread until `alarm` rings."""
        thread = threading.get_ident()
        with self.lock:
            try:
                alarm.blocks = thread
                self._blocked[thread] += 1
                woken = None
                while not alarm.rung:
                    if self._idle():
                        self._jump(alarm)
                    else:
                        if woken is None:
                            woken = threading.Condition(self.lock)
                            alarm.poke = woken.notify
                        woken.wait()
            finally:
                self._resume(alarm)

    async def wait_async(self, alarm: Alarm) -> None:
        """As `wait`, for a task."""
        import anyio

        loop = running_loop()
        try:
            while True:
                with self.lock:
                    idle, woken = self._idle(), anyio.Event()
                    alarm.poke = setter(woken, loop)
                if alarm.rung:
                    return
                if not idle:
                    await woken.wait()
                elif await self._settled(alarm):
                    with self.lock:
                        if self._idle():
                            self._jump(alarm)
        finally:
            with self.lock:
                self._resume(alarm)

    async def _settled(self, alarm: Alarm) -> bool:
        """Let other tasks run until none of them makes a call; whether time is to jump."""
        from anyio.lowlevel import checkpoint

        for _ in range(SETTLING_ROUNDS):
            before = self._activity
            for _ in range(SETTLING):
                await checkpoint()
                if alarm.rung or not self._idle():
                    return False
            if self._activity == before:
                break
        return True

    def _idle(self) -> bool:
        """Whether no call runs, but for those whose thread is blocked by one that waits."""
        with self.lock:
            return all(thread in self._blocked for thread in self._running)

    def _jump(self, mine: Alarm) -> None:
        """Let time pass until a call goes on, the one that does this included."""
        while not mine.rung and self._idle():
            first = self._first()
            if first is None:
                return
            upcoming = None if self._world is None else self._world.next_time()
            self._now = max(self._now, first.at if upcoming is None else min(first.at, upcoming))
            with self._blocking():
                self.catch_up()
                self._ring_due()

    def _ring_due(self) -> None:
        while True:
            alarm = self._first()
            if alarm is None or alarm.at > self._now:
                return
            if alarm.call is None:
                alarm.rung = True
                alarm.poke()
            else:
                self._ring(alarm)

    def _first(self) -> Optional[Alarm]:
        """The alarm that is to ring first, those that have rung or were given up put aside."""
        while self._agenda and self._agenda[0][2].rung:
            heapq.heappop(self._agenda)
        return self._agenda[0][2] if self._agenda else None

    def _plan(self, alarm: Alarm) -> None:
        self._activity += 1
        heapq.heappush(self._agenda, (alarm.at, next(self._order), alarm))

    def _ring(self, alarm: Alarm) -> None:
        """Have the call go on. Of a call on an event loop that is gone, nothing comes any more."""
        with self.lock:
            if not alarm.rung:
                with suppress(RuntimeError):
                    alarm.poke()
                    self._resume(alarm)
                alarm.rung = True

    def _resume(self, alarm: Alarm) -> None:
        alarm.rung = True
        if alarm.call is not None and not alarm.call.running:
            self._start(alarm.call)
        if alarm.blocks is not None:
            _take_one(self._blocked, alarm.blocks)
            alarm.blocks = None

    def _start(self, call: _Call) -> None:
        call.running = True
        self._activity += 1
        self._running[call.key[0]] += 1

    def _stop(self, call: _Call) -> None:
        call.running = False
        self._activity += 1
        _take_one(self._running, call.key[0])

    def _nudge(self) -> None:
        """A call has ended: if all others wait, have one of them look after the time."""
        while self._idle():
            waiting = self._first()
            if waiting is not None and waiting.call is None:
                others = (entry[2] for entry in self._agenda)
                waiting = next((alarm for alarm in others if alarm.call and not alarm.rung), None)
            if waiting is None:
                return
            try:
                waiting.poke()
            except RuntimeError:  # its event loop is gone
                waiting.rung = True
            else:
                return

    @contextmanager
    def _blocking(self) -> Generator[None, None, None]:
        """A block that holds up this thread, and with it the tasks of its event loop."""
        thread = threading.get_ident()
        self._blocked[thread] += 1
        try:
            yield
        finally:
            _take_one(self._blocked, thread)


class _Call:
    """A call in flight: whose it is, the waiting call within which it was made, if any."""

    __slots__ = ("began", "depth", "key", "outer", "running")

    def __init__(self, key: _Key, outer: Optional[_Call], began: float) -> None:
        self.key = key
        self.outer = outer
        self.began = began
        self.depth = 0
        self.running = False


class Alarm:
    """What a call in flight waits for; without a call, something that is to be done at a time."""

    __slots__ = ("at", "blocks", "call", "poke", "rung")

    def __init__(self, at: float, call: Optional[_Call], poke: Callable[[], object]) -> None:
        self.at = at
        self.call = call
        self.poke = poke
        self.rung = False
        self.blocks: Optional[int] = None


def nobody() -> None:
    """Nobody has begun to wait yet."""


def setter(woken: Event, loop: Optional[EventLoop]) -> Callable[[], object]:
    """What sets an event from any thread; it raises `RuntimeError` once the loop is gone."""

    def set_it() -> None:
        here = running_loop()
        if loop is None or (here is not None and here.token is loop.token):
            woken.set()
        else:
            loop.soon(woken.set)

    return set_it


def _take_one(counter: Counter[int], key: int) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
