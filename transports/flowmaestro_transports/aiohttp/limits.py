"""The time limits of an attempt on aiohttp, and how far it has come."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from typing import TYPE_CHECKING, Any, AsyncContextManager, Optional, cast

import aiohttp

from flowmaestro_core.timeouts import Timeout

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
elif TYPE_CHECKING:

    def timeout_at(when: float) -> AsyncContextManager[Any]: ...  # noqa: D103

else:
    from async_timeout import timeout_at  # a dependency of aiohttp's own there

__all__ = ["Attempt", "timeout_at", "watch_connections"]

_MARGIN = 0.1
"""Seconds by which connecting must end before the attempt as a whole where nothing else tells
the one from the other: if both limits ran out together, had the request left?"""


class Attempt:
    """One attempt that begins now, on the event loop that runs.

    aiohttp takes the limit for connecting from `for_aiohttp`; all others are kept by `timer`, the
    one of the attempt as a whole, which moves from phase to phase. `watched` says that a session
    of ours will tell when there is a connection; elsewhere the limit for the head is counted
    from when the one for connecting would run out.
    """

    def __init__(self, timeout: float, *, watched: bool) -> None:
        self._phases = phases = timeout if isinstance(timeout, Timeout) else None
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task() if sys.version_info < (3, 11) else None
        self.end = self._loop.time() + timeout
        self.timer: Any = None
        self.connecting = watched
        """Whether it is certain that nothing has been sent."""
        self.cut_short = False
        """Whether it ends because the transport is closed."""
        connect = None if phases is None else phases.connect
        if not watched:
            connect = min(connect or math.inf, max(timeout - _MARGIN, timeout * 3 / 4))
        self.for_aiohttp = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)

    def begins(self) -> None:
        """It is on its way."""
        if not self.connecting and self._phases is not None and self._phases.head is not None:
            self._bound((self._phases.connect or 0) + self._phases.head)

    def connected(self) -> None:
        """There is a connection."""
        self.connecting = False
        if self._phases is not None:
            self._bound(self._phases.head)

    def received(self) -> None:
        """The head has come, or a piece of the body."""
        if self._phases is not None:
            self._bound(self._phases.read)

    def cut(self) -> None:
        """End it at once, if its event loop is the one that runs."""
        if self._loop is asyncio.get_running_loop():
            self.cut_short = True
            if sys.version_info < (3, 11):  # a timer there would cancel the task that closes
                cast("asyncio.Task[object]", self._task).cancel()
                return
            with contextlib.suppress(RuntimeError):  # its time is up, and it is about to end
                self._bound(0)

    def was_cut_by(self, error: BaseException) -> bool:
        """Whether `error` is how `cut` ends it where it is not a timer that does."""
        cancelled = isinstance(error, asyncio.CancelledError)
        return sys.version_info < (3, 11) and self.cut_short and cancelled

    def _bound(self, seconds: Optional[float]) -> None:
        end = self.end if seconds is None else min(self._loop.time() + seconds, self.end)
        if sys.version_info >= (3, 11):
            self.timer.reschedule(end)
        else:
            self.timer.update(end)


def watch_connections() -> aiohttp.TraceConfig:
    """What has a session tell an `Attempt`, its `trace_request_ctx`, of its connection."""
    watch = aiohttp.TraceConfig()
    watch.on_connection_create_end.append(_connected)
    watch.on_connection_reuseconn.append(_connected)
    return watch


async def _connected(_session: object, context: Any, _params: object) -> None:
    context.trace_request_ctx.connected()
