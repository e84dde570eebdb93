"""A clock that stands still until somebody advances it."""

from __future__ import annotations

import threading


class VirtualClock:
    """Seconds that pass when told to, and in no time at all.

    One clock may be shared by any number of transports and threads; time never runs backwards.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now}>"

    @property
    def now(self) -> float:
        """Seconds since an arbitrary moment."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; raises `ValueError` if they are negative."""
        if seconds < 0:
            raise ValueError(f"time cannot run backwards: {seconds}")
        with self._lock:
            self._now += seconds

    def advance_to(self, time: float) -> None:
        """Let time pass until `time`, if that is still to come."""
        with self._lock:
            self._now = max(self._now, time)
