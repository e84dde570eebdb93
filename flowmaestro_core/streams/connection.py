"""The connections of an event stream: their decoder, and when the next one is due."""

from __future__ import annotations

from enum import Enum
from typing import Optional

from flowmaestro_core.errors import Attempt, FlowMaestroError, StreamError
from flowmaestro_core.http.messages import Fields, Phase, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.policy.retry import retry_after_of
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.sse import SseDecoder

LONGEST_PAUSE = 600.0
"""The longest pause in seconds. The SDK reconnects then, even if the server asks for a longer
pause."""


class ConnectionState(Enum):
    """The state of a stream's connection."""

    UNOPENED = "unopened"
    """No connection has been made. The first one is due at once."""
    OPEN = "open"
    """A body is open."""
    LOST = "lost"
    """The connection was lost, or could not be made. The next one is due at `due(now)`."""
    SET_ASIDE = "set aside"
    """The transport had to close the body, because no event came in time and it cannot continue a
    quiet body. Nothing is known to be wrong. The next connection is due at once, after a probe."""
    GIVEN_UP = "given up"
    """The server was away for too long. It must answer a probe before the next connection."""
    CLOSED = "closed"
    """The stream has an ending, and makes no more connections."""


class ReconnectState:
    """The state of a stream's connections, and when the next one is due.

    Reconnecting is not retrying a call: `max_retries` does not count. The pauses grow with each
    loss. A connection that held for longer than the upper bound of the last pause resets the
    pauses. An event does not: a server that breaks each connection after one event would otherwise
    be contacted several times a second. A lost stream is given up after `reconnect_for` seconds
    without an event, without an answer to a probe, and without a connection that holds for so long.

    Attributes:
        state: whether a body is open, and if not, why not and when the next one may be opened.
        decoder: decodes the body that is open, or was open last.
        openings: how many connections have been made.
        reconnects: how many of them were made after a loss.
        lost: the attempt that failed, until it has been reported.

    """

    def __init__(self, times: StreamTimes) -> None:
        self.state: ConnectionState = ConnectionState.UNOPENED
        self.decoder: SseDecoder = SseDecoder()
        self.openings: int = 0
        self.reconnects: int = 0
        self.lost: Optional[Attempt] = None
        self._times = times
        self._due_at: Optional[float] = None
        """When the connection that was last planned after a loss is due, or was due if it has been
        made. `None` before the first loss."""
        self._opened_at = 0.0  # Counts only while the connection is open.
        self._deadline: Optional[float] = None
        """The time limit of reconnecting. The stream is given up once a connection that was due at
        this time or later fails. `None` if there was progress since the last loss."""
        self._failures = 0  # How many losses in a row have made the pauses longer.
        self._last_bound = 0.0  # The upper bound of the last pause, in seconds.

    @property
    def is_open(self) -> bool:
        """Whether a body is open."""
        return self.state is ConnectionState.OPEN

    @property
    def is_given_up(self) -> bool:
        """Whether the stream is given up, because the server was away for too long."""
        return self.state is ConnectionState.GIVEN_UP

    @property
    def has_progressed(self) -> bool:
        """Whether an event or the response to a probe came since the last loss."""
        return self._deadline is None

    @property
    def headers(self) -> Fields:
        """The header fields of a reconnection: `Last-Event-ID`, or none.

        There is none if the server has sent no id, or one that is not printable ASCII.
        """
        sent = self.decoder.last_event_id
        fits = sent.isascii() and sent.isprintable() and sent == sent.strip()
        return (("Last-Event-ID", sent),) if sent and fits else ()

    def due(self, now: float) -> float:
        """Return when the next connection is due, not before `now`."""
        if self.state is ConnectionState.LOST:
            return max(now, self._due_at or now)
        return now

    def opened(self, now: float) -> bool:
        """Record that a connection was made. Return whether it was made after a loss."""
        again = self.state is ConnectionState.LOST and self.openings > 0
        self.state = ConnectionState.OPEN
        self._opened_at = now
        self.openings += 1
        if again:
            self.reconnects += 1
        # An incomplete event of the lost connection is dropped (WHATWG, 9.2.6).
        self.decoder = SseDecoder(self.decoder.last_event_id, retry=self.decoder.retry)
        return again

    def progressed(self) -> None:
        """Record that an event came. The time in which the SDK tries to reconnect starts anew."""
        self._deadline = None

    def answered(self, now: float) -> None:
        """Record that the server answered a probe. Its streams may still be broken."""
        self._deadline = None
        if self.state is ConnectionState.GIVEN_UP:
            self.state, self._due_at, self.lost = ConnectionState.LOST, now, None

    def closed(self) -> None:
        """Record that the body is not open any more, and that no other will be opened."""
        self.state = ConnectionState.CLOSED

    def set_aside(self) -> None:
        """Record that the transport closed a quiet body: nothing was lost with it."""
        self.state = ConnectionState.SET_ASIDE

    def plan(self, cause: Optional[Exception], now: float, jitter: float) -> None:
        """Plan the next connection, after the last one was lost or could not be made.

        `cause` is the error of the last one, or `None` if there was no error: the server ended it,
        or sent nothing for too long. If reconnecting has taken too long, no connection is planned:
        the state becomes `GIVEN_UP`.
        """
        times = self._times
        held = now - self._opened_at if self.state is ConnectionState.OPEN else 0.0
        if held > self._last_bound:
            self._failures = 0
        at_most = now + times.reconnect_for
        # The time for reconnecting begins with the first loss after progress, or after a
        # connection that held for as long.
        if held >= times.reconnect_for or self._deadline is None:
            self._deadline = at_most
        # A pause that the server asked for may have extended it. An earlier pause must not add to
        # this one.
        self._deadline = min(self._deadline, at_most)
        bound = min(times.reconnect_base * 2.0 ** min(self._failures, 64), times.reconnect_max)
        self._last_bound = bound
        delay = bound * (1 + jitter) / 2
        asked = min(max(retry_after_of(cause), (self.decoder.retry or 0) / 1000), LONGEST_PAUSE)
        self._failures += 1
        # The connection that just failed was the last one: it was due at the deadline.
        if self._due_at is not None and self._due_at >= self._deadline:
            self.state, self.lost = ConnectionState.GIVEN_UP, None
            return
        # The last opening begins at the deadline, not after it.
        if now < self._deadline:
            delay = min(delay, self._deadline - now)
        delay = max(delay, asked)
        self.state, self._due_at = ConnectionState.LOST, now + delay
        # A server that asks for a pause is not away meanwhile.
        self._deadline = max(self._deadline, now + asked)
        self.lost = Attempt(self._failures, Phase.REPLY_BROKEN, delay=delay)
        if isinstance(cause, FlowMaestroError) and cause.attempts:
            refused = cause.attempts[-1]
            self.lost = self.lost._replace(outcome=refused.outcome, code=refused.code)


def not_resumed(reason: str, cause: Optional[Exception], scrubber: SecretScrubber) -> StreamError:
    """Return the error of a stream that could not be resumed, for `reason`.

    `cause` is the error that broke the stream, or `None` if there was no error: the server ended
    the body, or sent nothing for too long.
    """
    said = f"The event stream was lost before its end and could not be resumed: {reason}"
    if isinstance(cause, (FlowMaestroError, TransportFailure)):
        said += f"; the last failure: {scrubber.line(cause.message)}"
    error = StreamError(said)
    error.__cause__ = cause
    return error
