"""The time limits of an attempt on aiohttp."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import Any, Optional, Type

import aiohttp

from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.http11.round_trip import LastLook

_MARGIN = 1.0
"""Seconds by which connecting must end before the attempt as a whole, or before the limit for the
head; less if that limit is below 4 s. If both limits were reached together, it would be unknown
whether the request was sent."""


class deadline:  # noqa: N801 - like `asyncio.timeout_at`
    """`asyncio.timeout_at`, except that what arrived before a late deadline is not dropped.

    If the event loop was blocked beyond the deadline, the data that arrived meanwhile and the
    deadline are due in the same turn of the loop. So the task is cancelled some turns later: each
    turn receives some data, or lets the task decompress a piece of it. `LastLook` bounds the turns.
    Before Python 3.11, a task that is cancelled from outside in one of them gets the timeout
    instead.
    """

    def __init__(self, when: Optional[float]) -> None:
        self._when = when
        self._expired = False
        self._timer: Optional[asyncio.Handle] = None
        self._task: Any = None
        self._cancellations = 0

    async def __aenter__(self) -> None:
        if self._when is not None:
            self._task = asyncio.current_task()
            if sys.version_info >= (3, 11):
                self._cancellations = self._task.cancelling()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._when, self._pass, loop, LastLook())

    async def __aexit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._expired:
            cancelled_outside = False
            if sys.version_info >= (3, 11):  # As `asyncio.timeout` does it.
                cancelled_outside = self._task.uncancel() > self._cancellations
            if kind is asyncio.CancelledError and not cancelled_outside:
                raise asyncio.TimeoutError

    def _pass(self, loop: asyncio.AbstractEventLoop, look: LastLook) -> None:
        if look.goes_on(loop.time()):
            self._timer = loop.call_soon(self._pass, loop, look)
        else:
            self._expired = True
            self._task.cancel()


class Limits:
    """The deadlines of an attempt that begins now, on the clock of the running event loop.

    aiohttp itself enforces the limit for connecting, which it gets as `for_aiohttp`. The limit for
    the head is counted from `Timeout.connect` seconds after the beginning, since aiohttp does not
    say when it has connected; without `connect`, from the beginning. Connecting must then end some
    time before the limit for the head, so that a request that was not sent counts as *not sent*.
    """

    def __init__(self, timeout: float) -> None:
        self._clock = asyncio.get_running_loop().time
        began = self._clock()
        self.end: float = began + timeout
        self.head: Optional[float] = None
        self._read: Optional[float] = None
        connect = _before(timeout)
        if isinstance(timeout, Timeout):
            self._read = timeout.read
            if timeout.head is not None:
                self.head = began + (timeout.connect or 0) + timeout.head
                if timeout.connect is None:
                    connect = min(connect, _before(timeout.head))
            connect = min(timeout.connect or connect, connect)
        self.connecting: float = connect
        """The limit for waiting for other calls and for connecting, in seconds."""
        self.connect: float = began + connect
        """When waiting for other calls and connecting must have ended."""

    def for_aiohttp(self) -> aiohttp.ClientTimeout:
        """Return what is left now of the limit for connecting, as aiohttp takes it."""
        # Without the threshold, aiohttp ends a limit of more than 5 s up to a second later.
        return aiohttp.ClientTimeout(connect=self.connect - self._clock(), ceil_threshold=math.inf)

    @property
    def piece(self) -> Optional[float]:
        """The deadline of the next piece of the body, if it is read now.

        `None` if the timeout has no limit for a read. Then only `end`, the deadline of the whole
        attempt, applies.
        """
        return None if self._read is None else self._clock() + self._read


def _before(seconds: float) -> float:
    """Return the limit for connecting within a limit of `seconds` that ends the attempt."""
    return max(seconds - _MARGIN, seconds * 3 / 4)
