"""How long one attempt may take: as a whole, and by the phases of a `Timeout`. Pure."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.timeouts import Timeout


class AttemptDeadline:
    """The deadline of an attempt that begins `now`, on the caller's clock; phases may bring it on.

    `timeout` is a number of seconds or a `Timeout`. Tell it of each phase as it begins.
    """

    __slots__ = ("_end", "_timeout", "at", "seconds")

    def __init__(self, timeout: float, now: float) -> None:
        self._end = now + timeout
        self._timeout = timeout if isinstance(timeout, Timeout) else None
        self.at = self._end
        """When the phase under way has to end."""
        self.seconds = float(timeout)
        """The limit that runs out then, for the error."""
        if self._timeout is not None:
            self._bound(self._timeout.connect, now)

    def connected(self, now: float) -> None:
        """There is a connection."""
        if self._timeout is not None:
            self._bound(self._timeout.head, now)

    def received(self, now: float) -> None:
        """The head has come, or a piece of the body."""
        if self._timeout is not None:
            self._bound(self._timeout.read, now)

    def _bound(self, seconds: Optional[float], now: float) -> None:
        if seconds is None or now + seconds >= self._end:
            self.at, self.seconds = self._end, float(self._timeout or 0)
        else:
            self.at, self.seconds = now + seconds, seconds
