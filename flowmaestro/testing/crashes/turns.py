"""Turns for the threads of a task, so that the same choices lead to the same steps.

A thread that is about to take a step waits until no other thread of the run computes, and until it
is the first of those that wait, in the order in which they were started.
"""

from __future__ import annotations

import contextvars
import os
import random
import sys
import threading
import time
from contextlib import contextmanager
from types import FrameType
from typing import Callable, Dict, Generator, List, NamedTuple, Optional, Set
from unittest import mock

from flowmaestro.testing.fake.model.world import World
from flowmaestro.testing.virtual.calls import Alarm
from flowmaestro.testing.virtual.clock import VirtualClock

LOOK = 0.0005
"""Seconds between two looks at the other threads. A step takes about as long."""
LONGEST_LOOK = 2.0
"""Seconds after which a thread that has not moved counts as blocked: it waits for a lock."""
_LIBRARY = os.path.dirname(threading.__file__)


class _Sight(NamedTuple):
    """Where a thread is: which one, its frame, the instruction, and whether it waits there."""

    number: int
    frame: int
    instruction: int
    is_blocked: bool


class _RandomOfThreads(random.Random):
    """Random numbers that are the same in each run, whichever thread draws first."""

    def __init__(self, turns: Turns) -> None:
        super().__init__(0)
        self._turns = turns
        self._of_thread: Dict[int, random.Random] = {}

    def _mine(self) -> random.Random:
        number = self._turns.number()
        if number not in self._of_thread:
            self._of_thread[number] = random.Random(number)  # noqa: S311 - repeatable
        return self._of_thread[number]

    def random(self) -> float:
        return self._mine().random()

    def getrandbits(self, k: int, /) -> int:
        return self._mine().getrandbits(k)


class Turns:
    """The threads that a run has started, and whose turn it is."""

    def __init__(self) -> None:
        self._everyone = [threading.current_thread()]
        self._over: Set[threading.Thread] = set()
        self._waiting: Set[int] = set()
        self._pause = threading.Event()
        self.random: random.Random = _RandomOfThreads(self)
        """A random source whose numbers for one thread do not depend on the other threads."""

    @property
    def has_threads(self) -> bool:
        """Whether the run has started a thread."""
        return len(self._everyone) > 1

    @property
    def used(self) -> bool:
        """Whether the run has started a thread that has not ended."""
        return len(self._over) < len(self._everyone) - 1

    def run(self, thread: threading.Thread, work: Callable[[], object]) -> None:
        """Do the work of a thread that the run has started: see `start`."""
        try:
            work()
        finally:
            self._over.add(thread)

    def start(self, thread: threading.Thread) -> None:
        """Note that the run starts a thread."""
        self._everyone.append(thread)

    def number(self) -> int:
        """Return which of the threads of the run this one is; -1 if it is another one."""
        here = threading.current_thread()
        return self._everyone.index(here) if here in self._everyone else -1

    def take(self) -> None:
        """Wait until it is the turn of this thread. Without other threads, return at once."""
        mine = self.number()
        if not self.used or mine < 0:
            return
        self._waiting.add(mine)
        try:
            # Not `time.sleep`, which is virtual.
            self.wait_for_others(self._pause.wait, lambda: min(self._waiting) == mine)
        finally:
            self._waiting.discard(mine)

    def wait_for_others(
        self, pause: Callable[[float], object], ready: Callable[[], bool] = lambda: True
    ) -> None:
        """Return once `ready` is true and no other thread computes, in two looks that are equal.

        `pause` is called with the seconds between two looks.
        """
        if not self.used:
            return
        seen, since = self._look(), time.perf_counter()
        while True:
            pause(LOOK)
            before, seen = seen, self._look()
            if seen != before:
                since = time.perf_counter()
                continue
            too_long = time.perf_counter() - since > LONGEST_LOOK
            if ready() and (too_long or all(it.is_blocked for it in seen)):
                return

    def _look(self) -> List[_Sight]:
        """Return where each other thread is that is not over and does not wait for its turn."""
        # Python documents it, for such purposes as this one.
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
        mine = self.number()
        found: List[_Sight] = []
        for number, thread in enumerate(self._everyone):
            if number != mine and number not in self._waiting and thread not in self._over:
                frame = frames.get(thread.ident or 0)
                lasti = frame.f_lasti if frame is not None else 0
                found.append(_Sight(number, id(frame), lasti, _is_blocked(frame)))
        return found


def _is_blocked(frame: Optional[FrameType]) -> bool:
    """Return whether a thread waits in the standard library, and nothing has woken it yet.

    What it waits for is a local variable there. Without a look at it, a thread that was woken a
    moment ago, and has not run since, would count as blocked.
    """
    if frame is None or not frame.f_code.co_filename.startswith(_LIBRARY):
        return False
    name, held = frame.f_code.co_name, frame.f_locals
    if name == "wait" and "waiter" in held:
        return bool(held["waiter"].locked()) and not held.get("gotit")
    if name == "_worker" and "work_queue" in held:
        return bool(held["work_queue"].empty())
    if name in ("join", "_wait_for_tstate_lock"):
        return bool(held["self"].is_alive())
    return name in ("select", "poll")


@contextmanager
def inherited(turns: Turns) -> Generator[None, None, None]:
    """In a `with` block, let each new thread take turns, and inherit the context of its parent."""
    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        context, work = contextvars.copy_context(), thread.run
        setattr(thread, "run", lambda: context.run(turns.run, thread, work))  # noqa: B010
        turns.start(thread)
        start(thread)

    with mock.patch.object(threading.Thread, "start", started):
        yield


class SteadyClock(VirtualClock):
    """A virtual clock that advances only when no thread of the run computes."""

    def __init__(self, turns: Turns, world: World) -> None:
        super().__init__(world=world)
        self._turns = turns
        self._settling = threading.Condition(self.lock)

    def _jump(self, mine: Alarm) -> None:
        self._turns.wait_for_others(self._settling.wait)
        super()._jump(mine)
