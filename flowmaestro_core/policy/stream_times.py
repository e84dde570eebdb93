"""The clocks of an event stream, in one options object."""

from __future__ import annotations

from dataclasses import dataclass

from flowmaestro_core.arguments import check_seconds


@dataclass(frozen=True)
class StreamTimes:
    """When a quiet stream is doubted, and how soon a lost one is made anew. All in seconds.

    Raises `ValueError` or `TypeError` for what is not a positive, finite number of seconds.

    Attributes:
        event_idle: no event for so long: ask what the execution's state is. Keepalives and
            `connected` are no events.
        event_idle_max: later questions come ever less often, up to this interval.
        bytes_idle: not a single byte for so long (three missed keepalives): the connection is
            dead, so reconnect. The stream that a message itself is answered with is given as
            long as the answer may take (130 s, or the time limit set for the call), if that is
            more.
        reconnect_base: the bound of the first random delay before a reconnection; it doubles
            with each one that brings nothing new.
        reconnect_max: no random delay is longer. What the server asks for (`retry:`,
            `Retry-After`) may be.
        reconnect_for: how long a lost stream is reconnected while the server does not answer;
            then it fails. An event, or an answer about the execution, starts this time again.

    """

    event_idle: float = 5.0
    event_idle_max: float = 30.0
    bytes_idle: float = 90.0
    reconnect_base: float = 0.5
    reconnect_max: float = 20.0
    reconnect_for: float = 60.0

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            check_seconds(name, seconds)
