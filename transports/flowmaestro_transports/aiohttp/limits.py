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

    def timeout_at(when: Optional[float]) -> AsyncContextManager[Any]: ...  # noqa: D103

else:
    from async_timeout import timeout_at  # a dependency of aiohttp's own there

__all__ = ["Limits", "timeout_at"]

_MARGIN = 1.0
"""Seconds by which connecting must end before the attempt as a whole: if both limits ran out
together, had the request left?"""

_TURNS = 10
"""How many turns of the event loop the limit for connecting has to take effect, if a loop that was
held up finds both limits passed."""


class Limits:
    """The limits of an attempt that begins now, on the event loop that runs.

    aiohttp keeps the one for connecting (`for_aiohttp`). This context manager keeps all others: it
    has one timer for the attempt as a whole, which moves from phase to phase. The limit for the
    head is counted from when the one for connecting would run out, since aiohttp does not tell
    when it connects.
    """

    def __init__(self, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.end = self._loop.time() + timeout
        self._scope: Any = timeout_at(None)
        self._alarm: Optional[asyncio.Handle] = None
        connect = max(timeout - _MARGIN, timeout * 3 / 4)
        self._head = self._read = None
        if isinstance(timeout, Timeout):
            connect = min(timeout.connect or connect, connect)
            self._read = timeout.read
            if timeout.head is not None:
                self._head = (timeout.connect or 0) + timeout.head
        self.for_aiohttp = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)

    async def __aenter__(self) -> None:
        await self._scope.__aenter__()
        self._bound(self._head)

    async def __aexit__(self, *raised: object) -> Any:
        self._silence()
        return await self._scope.__aexit__(*raised)

    def received(self) -> None:
        """The head has come, or a piece of the body."""
        if self._head is not None or self._read is not None:
            self._silence()
            self._bound(self._read)

    def _bound(self, seconds: Optional[float]) -> None:
        end = self.end if seconds is None else min(self._loop.time() + seconds, self.end)
        if sys.version_info >= (3, 11):
            self._alarm = self._loop.call_at(end, self._run_out, _TURNS)
        else:  # where an inner limit takes effect, whatever has become of the outer one
            self._scope.update(end)

    def _run_out(self, turns: int) -> None:
        if turns:
            self._alarm = self._loop.call_soon(self._run_out, turns - 1)
        else:
            self._scope.reschedule(self._loop.time())

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
