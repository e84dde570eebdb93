"""A real clock for a fake in memory: its responses take real time."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, suppress
from typing import Generator, Optional

from flowmaestro.testing.fake.model.replies import Source
from flowmaestro.testing.fake.model.world import World
from flowmaestro.testing.virtual.calls import Alarm
from flowmaestro.testing.virtual.clock import VirtualClock, setter
from flowmaestro_transports.driving.event_loops import running_loop


class RealClock(VirtualClock):
    """A `VirtualClock` whose seconds are real, counted from its creation.

    No thread runs for it. What is due happens in the next `catch_up`: when a thread or task makes a
    call, waits on this clock, or reads what the fake has recorded.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world=world)
        self._world: World = world
        self._began = time.monotonic()

    def __repr__(self) -> str:
        return f"<RealClock at {self.now}>"

    @property
    def now(self) -> float:
        """Seconds since the clock was made."""
        return time.monotonic() - self._began

    @contextmanager
    def in_flight(self) -> Generator[None, None, None]:
        """Do nothing: a real clock does not depend on the calls in flight."""
        yield

    def alarm(self, at: float, source: Optional[Source] = None) -> Alarm:
        """Return an alarm that ends a wait at `at`, or when `source` has data.

        `at` may be infinity, which `VirtualClock.alarm` refuses.
        """
        alarm = Alarm(at, None)

        def wake() -> None:
            with suppress(RuntimeError):  # Its event loop is closed, so the call has ended.
                self._fire(alarm)

        if source is not None:
            source.wake = wake
        return alarm

    def wait(self, alarm: Alarm) -> None:
        """Block this thread until the time of `alarm`, or until it fires.

        The world advances meanwhile.
        """
        with self.lock:
            woken = threading.Condition(self.lock)
            alarm.wake = woken.notify
            while True:
                seconds = self._seconds_until(alarm)
                if not seconds:
                    return
                woken.wait(min(seconds, threading.TIMEOUT_MAX))

    async def wait_async(self, alarm: Alarm) -> None:
        """Wait in a task until the time of `alarm`, or until it fires.

        The world advances meanwhile.
        """
        import anyio

        loop = running_loop()
        while True:
            with self.lock:
                woken = anyio.Event()
                alarm.wake = setter(woken, loop)
                seconds = self._seconds_until(alarm)
            if not seconds:
                return
            # Only an event loop of asyncio has this method.
            call_later = getattr(loop and loop.token, "call_later", None)
            if call_later is None:
                with anyio.move_on_after(seconds):
                    await woken.wait()
                continue
            # Before Python 3.11, a scope that times out swallows a cancellation of the same moment.
            timer = call_later(seconds, woken.set)
            try:
                await woken.wait()
            finally:
                timer.cancel()

    def catch_up(self) -> None:
        """Advance the world to the present time, and call the due functions of `call_later`."""
        with self.lock:
            now = self.now
            self._world.live_until(now)
            for alarm in self._alarms.due(now):
                self._fire(alarm)

    def _seconds_until(self, alarm: Alarm) -> float:
        """Advance the world to now. Return the seconds until something is due next.

        That is the world, `alarm` or a function of `call_later`. Return 0.0 if `alarm` has fired or
        is due, else at least 0.001.
        """
        self.catch_up()
        if alarm.fired or self.now >= alarm.at:
            return 0.0
        planned = self._alarms.first()
        times = (alarm.at, self._world.next_time(), None if planned is None else planned.at)
        return max(0.001, min(at for at in times if at is not None) - self.now)
