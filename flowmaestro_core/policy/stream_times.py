"""The time limits of an event stream, in one options object."""

from __future__ import annotations

from dataclasses import dataclass

from flowmaestro_core.arguments import check_seconds

LEAST = 0.001
"""The shortest limit, in seconds. A much shorter one is lost in rounding when it is added to the
time of a monotonic clock that has run for months."""


@dataclass(frozen=True)
class StreamTimes:
    """When the SDK polls the execution of a quiet stream and reconnects a lost one. All in seconds.

    Raises `ValueError` or `TypeError` for a value that is not a finite number of at least 0.001.

    Attributes:
        event_idle: time without an event after which the SDK polls the execution, or looks for the
            answer among the messages. Keepalives and `connected` do not count as events. Before the
            first event of a connection, it may poll earlier.
        event_idle_max: longest time between two polls of a quiet stream, unless the rate limit or
            a `Retry-After` demands a longer one. The time grows up to it.
        bytes_idle: time without a single byte after which the connection is dead and the SDK
            reconnects; by default, three missed keepalives. The stream of an answer is not
            reconnected. For it, this is at least the time that the answer may take: 130 s, or the
            client's `timeout` if that is longer, or the time limit set for the call.
        reconnect_base: upper bound of the first random delay before a reconnection. The bound
            doubles with each loss, and delays are drawn between half of it and the whole. A
            connection that held for longer than the bound of the last delay resets the bound to
            this value, whether or not it brought an event.
        reconnect_max: greatest upper bound. A delay that the server sets (`retry:`, `Retry-After`)
            may be longer.
        reconnect_for: how long the SDK tries to reconnect while the server does not answer. Then
            the stream fails, unless a last poll succeeds. An event, a successful poll, or a
            connection that holds for as long restarts this time. If the server sets a delay that
            ends later, a last attempt follows it.

    """

    event_idle: float = 5.0
    event_idle_max: float = 30.0
    bytes_idle: float = 90.0
    reconnect_base: float = 0.5
    reconnect_max: float = 5.0
    reconnect_for: float = 60.0

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            check_seconds(name, seconds)
            if seconds < LEAST:
                raise ValueError(f"{name} must be at least {LEAST} seconds, not {seconds:g}")
