"""The phases of a `Timeout`, kept to by one cancel scope."""

from __future__ import annotations

from typing import Optional

import anyio

from flowmaestro_core.timeouts import Timeout


class PhaseLimits:
    """Moves the deadline of an attempt's one `scope` from phase to phase."""

    __slots__ = ("_end", "_scope", "_timeout", "seconds")

    def __init__(self, scope: anyio.CancelScope, timeout: Timeout) -> None:
        self._scope = scope
        self._end = scope.deadline
        self._timeout = timeout
        self.seconds = float(timeout)
        """The limit that runs out first, for the error."""
        self._bound(timeout.connect)

    def connected(self) -> None:
        """A connection is at hand."""
        self._bound(self._timeout.head)

    def received(self) -> None:
        """The head has come, or a piece of the body."""
        self._bound(self._timeout.read)

    def _bound(self, seconds: Optional[float]) -> None:
        deadline = self._end if seconds is None else anyio.current_time() + seconds
        self._scope.deadline = min(deadline, self._end)
        self.seconds = float(self._timeout) if seconds is None or deadline >= self._end else seconds
