"""The clocks of an event stream, in one options object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StreamTimes:
    """When a quiet stream is doubted. All in seconds.

    Attributes:
        event_idle: no event for so long: ask what the execution's state is. Keepalives and
            `connected` are no events.
        event_idle_max: later questions come ever less often, up to this interval.
        bytes_idle: not a single byte for so long (three missed keepalives): the connection is
            dead, so reconnect.

    """

    event_idle: float = 5.0
    event_idle_max: float = 30.0
    bytes_idle: float = 90.0
