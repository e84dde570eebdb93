"""The connection of an event stream: its states, and the pauses before another one is made.

Reconnecting is not retrying a call: `max_retries` does not apply. Two rules limit it:

* The upper bound of the pauses doubles with each loss, up to `reconnect_max`. A connection that
  held for longer than the last bound resets the bound. An event does not: a server that breaks each
  connection after one event would otherwise be contacted several times a second.
* The server may be away for `reconnect_for` seconds (`Absence`). This time begins with the first
  loss. It begins again with the first loss after an event, after an answer to a probe, or after a
  connection that held for `reconnect_for` seconds. The last attempt to connect is made at the end
  of this time, or later.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Optional

from flowmaestro_core.errors import Attempt, FlowMaestroError, StreamError
from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.policy.retry import retry_after_of
from flowmaestro_core.policy.stream_times import StreamTimes

LONGEST_PAUSE = 600.0
"""The longest pause in seconds that the server may ask for. If it asks for a longer one, the SDK
reconnects after this time. Ten minutes are longer than a restart of the server, and short enough
that a mistyped `retry:` (seconds for milliseconds) does not keep a stream closed for days."""


class Connection(Enum):
    """The state of a stream's connection."""

    UNOPENED = "unopened"
    """No connection has been made or has failed. The first one is due at once."""
    OPEN = "open"
    """A body is open, and has not brought an event."""
    LIVE = "live"
    """A body is open, and has brought an event. `connected` does not count."""
    LOST = "lost"
    """The connection was lost, or could not be made. The next one is due after a pause."""
    SET_ASIDE = "set aside"
    """The transport had to close the body, because no event came in time and it cannot continue a
    quiet body. Nothing is known to be wrong. The next connection is due at once, after a probe."""
    CLOSED = "closed"
    """No body is open and no connection is planned: the stream has an ending (`ending.py`)."""


class Absence(NamedTuple):
    """The time in which the server may be away, since it was last heard of."""

    until: float
    """When the server has been away for too long."""
    at_last_attempt: bool
    """Whether the next connection is planned for `until` or later. If it fails, too, the stream
    ends."""


def greatest_pause(losses: int, times: StreamTimes) -> float:
    """Return the upper bound, in seconds, of the pause after so many losses in a row; 0 for none.

    The pause is drawn between half of it and the whole.
    """
    # 2**64 is longer than any `reconnect_max`; an exponent of some thousand would be an error.
    doubled = times.reconnect_base * 2.0 ** min(losses - 1, 64)
    return min(doubled, times.reconnect_max) if losses else 0.0


def pause_asked_for(cause: Optional[Exception], retry: Optional[int]) -> float:
    """Return the seconds that the server asked to wait, at most `LONGEST_PAUSE`; 0 if none.

    This is the greater one of the `Retry-After` of `cause`, if it has one, and the stream's
    `retry:`, in milliseconds.
    """
    return min(max(retry_after_of(cause), (retry or 0) / 1000), LONGEST_PAUSE)


def failed_attempt(number: int, pause: float, cause: Optional[Exception]) -> Attempt:
    """Return the `Attempt` that hooks and logs get for a lost connection or a failed opening."""
    if isinstance(cause, FlowMaestroError) and cause.attempts:
        return cause.attempts[-1]._replace(number=number, delay=pause)
    return Attempt(number, Phase.REPLY_BROKEN, delay=pause)


def not_resumed(reason: str, cause: Optional[Exception], scrubber: SecretScrubber) -> StreamError:
    """Return the error of a stream that could not be resumed, for `reason`.

    `cause` is the last failure, or `None` if there was no error: the server ended the body, or sent
    nothing for too long.
    """
    said = f"The event stream was lost before its end and could not be resumed: {reason}"
    if isinstance(cause, (FlowMaestroError, TransportFailure)):
        said += f"; the last failure: {scrubber.line(cause.message)}"
    error = StreamError(said)
    error.__cause__ = cause
    return error
