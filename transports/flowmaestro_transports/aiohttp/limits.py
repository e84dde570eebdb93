"""The time limits of an attempt on aiohttp."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import TYPE_CHECKING, Any, AsyncContextManager, Optional

import aiohttp

from flowmaestro_core.timeouts import Timeout

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
elif TYPE_CHECKING:

    def timeout_at(when: float) -> AsyncContextManager[Any]: ...  # noqa: D103

else:
    from async_timeout import timeout_at  # a dependency of aiohttp's own there

__all__ = ["Limits", "timeout_at"]

_MARGIN = 1.0
"""Seconds by which connecting must end before the attempt as a whole: if an event loop that was
held up found both limits passed, had the request left?"""


class Limits:
    """The limits of an attempt that begins now, on the event loop that runs.

    aiohttp keeps the one for connecting (`for_aiohttp`). `timer` keeps all others: it is the one
    of the attempt as a whole, and moves from phase to phase. The limit for the head is counted
    from when the one for connecting would run out, since aiohttp does not tell when it connects.
    """

    def __init__(self, timeout: float) -> None:
        self._now = asyncio.get_running_loop().time
        self.end = self._now() + timeout
        self.timer: Any = None
        connect = max(timeout - _MARGIN, timeout * 3 / 4)
        self._head = self._read = None
        if isinstance(timeout, Timeout):
            connect = min(timeout.connect or connect, connect)
            self._read = timeout.read
            if timeout.head is not None:
                self._head = (timeout.connect or 0) + timeout.head
        self.for_aiohttp = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)

    def begins(self) -> None:
        """The attempt is on its way."""
        self._bound(self._head)

    def received(self) -> None:
        """The head has come, or a piece of the body."""
        self._bound(self._read)

    def _bound(self, seconds: Optional[float]) -> None:
        if self._head is None and self._read is None:
            return
        end = self.end if seconds is None else min(self._now() + seconds, self.end)
        if sys.version_info >= (3, 11):
            self.timer.reschedule(end)
        else:
            self.timer.update(end)
