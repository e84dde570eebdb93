"""Virtual time: it stands still while any call runs, and advances when every call waits.

A user of the clock registers every call in flight and everything that the call waits for. Once
every call in flight waits, time jumps to the first moment at which one of them continues. Nothing
sleeps and no timer is set: threads block on a condition, tasks on an event.
"""

from __future__ import annotations

import math
import threading
from contextlib import contextmanager, suppress
from typing import (
    TYPE_CHECKING,
    Callable,
    Generator,
    Optional,
)

from flowmaestro.testing.arguments import check_function, check_seconds
from flowmaestro.testing.fake.model.replies import Source
from flowmaestro.testing.fake.model.world import World
from flowmaestro.testing.virtual.calls import Alarm, Alarms, CallsInFlight
from flowmaestro_transports.driving.event_loops import EventLoop, running_loop

if TYPE_CHECKING:
    from anyio import Event

IDLE_CHECKS = 5
"""How many times the other tasks of an event loop may run without making a call before a jump. A
task that goes on is at its next call within a few steps of the loop."""
IDLE_CHECK_ROUNDS = 20
"""The most rounds of `IDLE_CHECKS`. Another round follows one in which a task made a call."""
LONGEST_CALL = 30 * 86_400.0
"""Virtual seconds after which a call raises when it waits again, because it may never end: far more
than any timeout that a test of an application sets."""


class VirtualClock:
    """A clock whose seconds take no real time.

    When every call in flight waits, time jumps to the moment at which the first of them
    continues. Code that a task or thread runs between two calls does not delay the jump; but
    first, the other tasks of the event loop may run a few times. A thread that blocks in a call
    blocks the tasks of its event loop, so their calls count as waiting, too.

    Safe to use from several threads and event loops at once.

    Args:
        start: the time at the beginning, in seconds.
        world: a model, such as a fake, whose planned events happen when this clock reaches them.

    """

    def __init__(self, start: float = 0.0, world: Optional[World] = None) -> None:
        self.lock: threading.RLock = threading.RLock() if world is None else world.lock
        self._now = start
        self._world = world
        self._alarms = Alarms()
        self._calls = CallsInFlight()

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now}>"

    @property
    def now(self) -> float:
        """Seconds since an arbitrary moment. The value never decreases."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Advance time by `seconds`. The caller counts as a call in flight that sleeps.

        Everything that is due meanwhile happens at its own time. Raises `TypeError` or `ValueError`
        unless `seconds` is a finite number of at least 0.
        """
        check_seconds("seconds", seconds)
        with self.in_flight():
            self.wait(self.alarm(self._now + seconds))

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call `function` after `seconds`, in the thread or task that advances time then.

        `function` may make calls of its own, but must not wait for another thread that makes
        calls: time stands still meanwhile. What `function` raises is raised in that thread or task.

        Raises `TypeError` or `ValueError` unless `seconds` is a finite number of at least 0, and
        `TypeError` if `function` is not callable or is a coroutine function.
        """
        check_seconds("seconds", seconds)
        check_function("function", function)
        with self.lock:
            self._plan(Alarm(self._now + seconds, None, function))

    def catch_up(self) -> None:
        """Advance the world, if there is one: everything in it that is due by now happens."""
        if self._world is not None:
            self._world.live_until(self._now)

    @contextmanager
    def in_flight(self) -> Generator[None, None, None]:
        """Count the calling task or thread as a call in flight in a `with` block.

        Nested blocks of one task or thread count as one call. But while the outer call waits for a
        time of this clock, a nested block counts as a call of its own.
        """
        with self.lock:
            if self._world is not None:
                self._now = max(self._now, self._world.now)
            call = self._calls.enter(self._now)
        try:
            yield
        finally:
            with self.lock:
                if self._calls.leave(call):
                    self._wake_one()

    @contextmanager
    def blocked(self) -> Generator[None, None, None]:
        """Count the calling thread as blocked in a `with` block: it waits for another thread.

        Its call in flight, if it has one, does not keep time from advancing.
        """
        thread = threading.get_ident()
        with self.lock:
            self._calls.block(thread)
        try:
            yield
        finally:
            with self.lock:
                self._calls.unblock(thread)

    def alarm(self, at: float, source: Optional[Source] = None) -> Alarm:
        """Return an alarm for the current call, which fires at `at` or when `source` has data.

        The caller must hold `lock` from its look at `source` until this method returns, so that no
        data is missed, and then pass the alarm to `wait` or `wait_async`. Raises `ValueError` if
        `at` is infinite. Raises `AssertionError` for a call that has lasted more than 30 days: in
        virtual time, a call that never ends would use a processor forever.
        """
        if not math.isfinite(at):
            raise ValueError(f"a wait must end, not last until {at}")
        with self.lock:
            call = self._calls.current()
            if self._now - call.began > LONGEST_CALL:
                raise AssertionError(
                    f"a call has gone on for {LONGEST_CALL / 3600:.0f} hours of virtual time; does "
                    "it wait, without a time limit, for something that never comes?"
                )
            alarm = Alarm(at, call)
            if source is not None:
                source.wake = lambda: self._fire(alarm)
            self._calls.stop(call)
            self._plan(alarm)
            return alarm

    def wait(self, alarm: Alarm) -> None:
        """Block this thread until `alarm` fires.

        If no call can run any more, this thread advances the clock until one can.
        """
        thread = threading.get_ident()
        with self.lock:
            try:
                alarm.blocks = thread
                self._calls.block(thread)
                woken = None
                while not alarm.fired:
                    if self._idle():
                        self._jump(alarm)
                    else:
                        if woken is None:
                            woken = threading.Condition(self.lock)
                            alarm.wake = woken.notify
                        woken.wait()
            finally:
                self._resume(alarm)

    async def wait_async(self, alarm: Alarm) -> None:
        """Wait in a task until `alarm` fires.

        If no call can run any more, this task advances the clock until one can.
        """
        import anyio

        loop = running_loop()
        try:
            while True:
                with self.lock:
                    idle, woken = self._idle(), anyio.Event()
                    alarm.wake = setter(woken, loop)
                if alarm.fired:
                    return
                if not idle:
                    await woken.wait()
                elif await _others_idle(self._calls, lambda: not alarm.fired and self._idle()):
                    with self.lock:
                        if self._idle():
                            self._jump(alarm)
        finally:
            with self.lock:
                self._resume(alarm)

    def _idle(self) -> bool:
        """Return whether no call can run: each one waits, or a waiting one blocks its thread."""
        with self.lock:
            return self._calls.all_wait()

    def _jump(self, mine: Alarm) -> None:
        """Advance time until a call continues: the one that waits for `mine`, or another one."""
        while not mine.fired and self._idle():
            first = self._alarms.first()
            if first is None:
                return
            upcoming = None if self._world is None else self._world.next_time()
            self._now = max(self._now, first.at if upcoming is None else min(first.at, upcoming))
            thread = threading.get_ident()
            self._calls.block(thread)
            try:
                self.catch_up()
                for alarm in self._alarms.due(self._now):
                    self._fire(alarm)
            finally:
                self._calls.unblock(thread)

    def _plan(self, alarm: Alarm) -> None:
        self._calls.activity += 1
        self._alarms.add(alarm)

    def _fire(self, alarm: Alarm) -> None:
        """Let the call of `alarm` continue, or call the function of an alarm without a call.

        If the event loop of the call is closed, only mark the alarm as fired.
        """
        with self.lock:
            if alarm.call is None:
                alarm.fired = True
                alarm.wake()
            elif not alarm.fired:
                with suppress(RuntimeError):
                    alarm.wake()
                    self._resume(alarm)
                alarm.fired = True

    def _resume(self, alarm: Alarm) -> None:
        alarm.fired = True
        if alarm.call is not None and not alarm.call.running:
            self._calls.start(alarm.call)
        if alarm.blocks is not None:
            self._calls.unblock(alarm.blocks)
            alarm.blocks = None

    def _wake_one(self) -> None:
        """Wake one waiting call to advance the clock, if no call is running any more."""
        while self._idle():
            waiting = self._alarms.any_with_call()
            if waiting is None:
                return
            try:
                waiting.wake()
            except RuntimeError:  # Its event loop is closed.
                waiting.fired = True
            else:
                return


async def _others_idle(calls: CallsInFlight, still: Callable[[], bool]) -> bool:
    """Let other tasks of the event loop run, so that they can make calls before time advances.

    Returns True once they make no more calls, or after `IDLE_CHECK_ROUNDS` rounds: the clock may
    advance. Returns False as soon as `still()` is false.
    """
    from anyio.lowlevel import checkpoint

    for _ in range(IDLE_CHECK_ROUNDS):
        before = calls.activity
        for _ in range(IDLE_CHECKS):
            await checkpoint()
            if not still():
                return False
        if calls.activity == before:
            break
    return True


def setter(woken: Event, loop: Optional[EventLoop]) -> Callable[[], object]:
    """Return a function that sets the event `woken` from any thread.

    The function raises `RuntimeError` once the event loop `loop` is closed. If `loop` is `None`,
    the function sets the event directly.
    """

    def set_it() -> None:
        here = running_loop()
        if loop is None or (here is not None and here.token is loop.token):
            woken.set()
        else:
            loop.soon(woken.set)

    return set_it
