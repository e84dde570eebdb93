"""The waits for the first event, on a transport that loses a body which was quiet for too long.

Such a transport (`Read.impatient`) cannot poll the execution beside an open stream, and the
deployed server may publish no events at all. So it waits for the first event only for a while, then
the execution is probed, and the stream is opened again with more patience.
"""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.actions import LEAST_PATIENCE
from flowmaestro_core.http.messages import TransportFailure

WAITS = (2.0, 4.0, 8.0, 16.0)
"""Seconds, in turn. In recordings of the deployed server the first event came within 1 s, so 2 s
are enough as a rule. Each further wait is twice as long, so an execution that stays silent costs
few requests. The last one is below 30 s, the interval at which the server sends keepalives."""


class FirstEventWaits:
    """The wait for the first event of a stream, on a transport that loses a quiet body.

    `seconds` is its length; `None` once an event came, or if no wait is left. Then the transport
    waits as long as for later events.
    """

    __slots__ = ("_left", "seconds")

    def __init__(self, *, can_probe: bool) -> None:
        self._left = iter(WAITS if can_probe else ())
        self.seconds: Optional[float] = next(self._left, None)

    def is_over(self, failure: TransportFailure) -> bool:
        """Return whether `failure` is only the end of this wait. Then the next one is longer.

        Otherwise, the connection was lost.
        """
        if self.seconds is None or not failure.timed_out:
            return False
        self.seconds = next(self._left, None)
        return True

    def limit(self, patience: float, left: float) -> float:
        """Return how long such a transport waits for bytes, in seconds.

        Another transport would wait for `patience`. `left` is the time until the connection counts
        as lost, or the stream times out.
        """
        if self.seconds is not None:
            return min(left, self.seconds)
        return min(left, max(patience, LEAST_PATIENCE))
