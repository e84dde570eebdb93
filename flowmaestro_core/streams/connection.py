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
"""The longest pause in seconds that the server may ask for. If it asks for a longer one, the SDK
reconnects after this time."""


class ConnectionState(Enum):
    """The state of a stream's connection."""

    UNOPENED = "unopened"
    """No connection has been made or has failed. The first one is due at once."""
    OPEN = "open"
    """A body is open."""
    LOST = "lost"
    """The connection was lost, or could not be made. The next one is due at `due(now)`."""
    SET_ASIDE = "set aside"
    """The transport had to close the body, because no event came in time and it cannot continue a
    quiet body. Nothing is known to be wrong. The next connection is due at once, after a probe."""
    CLOSED = "closed"
    """No body is open and no connection is planned: the stream has an ending (`ending.py`)."""


class ReconnectState:
    """The state of a stream's connections, and when the next one is due.

    Reconnecting is not retrying a call: `max_retries` does not apply. Two rules limit it:

    * The upper bound of the pauses doubles with each loss, up to `reconnect_max`. A connection that
      held for longer than the last bound resets the bound. An event does not: a server that breaks
      each connection after one event would otherwise be contacted several times a second.
    * The server may be away for `reconnect_for` seconds. This time begins with the first loss. It
      begins again with the first loss after an event, after an answer to a probe, or after a
      connection that held for `reconnect_for` seconds. The last attempt to connect is made at the
      end of this time, or later.

    Attributes:
        state: whether a body is open, and if not, why not.
        decoder: decodes the body that is open, or was open last.
        openings: how many connections have been made.
        reconnects: how many connections replaced a lost one.
        has_progressed: whether an event or an answer to a probe came since the last loss; True
            before the first loss.
        lost: the last loss, or failure to connect, until it has been reported; then `None`.

    """

    def __init__(self, times: StreamTimes) -> None:
        self.state: ConnectionState = ConnectionState.UNOPENED
        self.decoder: SseDecoder = SseDecoder()
        self.openings: int = 0
        self.reconnects: int = 0
        self.has_progressed: bool = True
        self.lost: Optional[Attempt] = None
        self._times = times
        self._opened_at = 0.0
        """When the open connection was made. Counts only in the state `OPEN`."""
        self._due_at = 0.0
        """When the next connection is due. Counts only in the state `LOST`."""
        self._failures = 0
        """How many losses in a row have made the pauses longer."""
        self._last_bound = 0.0
        """The upper bound of the last pause, in seconds."""
        self._away_until = 0.0
        """When the server has been away for too long. Counts only while `has_progressed` is
        False."""
        self._is_last = False
        """Whether the next connection was planned for `_away_until` or later. If it fails without
        progress, no other is planned. Counts only while `has_progressed` is False."""
        self._sends_id = True
        """Whether a reconnection may send `Last-Event-ID`."""
        self._last_failed: Optional[Attempt] = None
        """The failure after which `plan` has planned no connection; `reopen` may plan one."""

    @property
    def is_open(self) -> bool:
        """Whether a body is open."""
        return self.state is ConnectionState.OPEN

    @property
    def was_open(self) -> bool:
        """Whether any connection has been made."""
        return self.openings > 0

    @property
    def headers(self) -> Fields:
        """The header fields of a reconnection: `Last-Event-ID`, or none.

        There is none if the last id of the server is missing, empty or not printable ASCII, or
        begins or ends with a space. Nor is there one after `refuse_id`.
        """
        if not self._sends_id:
            return ()
        sent = self.decoder.last_event_id
        fits = sent.isascii() and sent.isprintable() and sent == sent.strip()
        return (("Last-Event-ID", sent),) if sent and fits else ()

    def due(self, now: float) -> float:
        """Return when the next connection is due, at the earliest `now`."""
        if self.state is ConnectionState.LOST:
            return max(now, self._due_at)
        return now

    # What happened

    def refuse_id(self) -> None:
        """Send no `Last-Event-ID` any more: for this server, it makes the head too large (431)."""
        self._sends_id = False

    def opened(self, now: float) -> bool:
        """Record that a connection was made. Return whether it replaces a lost one."""
        # The first connection replaces none, even if earlier attempts to make it failed. Nor does
        # one after `SET_ASIDE`, because no event was lost.
        reconnected = self.state is ConnectionState.LOST and self.was_open
        self.state = ConnectionState.OPEN
        self._opened_at = now
        self.openings += 1
        if reconnected:
            self.reconnects += 1
        # An incomplete event of the lost connection is dropped (WHATWG, 9.2.6).
        self.decoder = SseDecoder(self.decoder.last_event_id, retry=self.decoder.retry)
        return reconnected

    def progressed(self) -> None:
        """Record that an event came, or the answer to a probe.

        The server may then be unreachable for `reconnect_for` seconds again, from the next loss.
        """
        self.has_progressed = True

    def closed(self) -> None:
        """Record that no body is open any more, and that no connection is planned."""
        self.state, self.lost = ConnectionState.CLOSED, None

    def reopen(self, now: float) -> None:
        """Plan a connection for `now`, although `plan` has returned False."""
        self.state, self._due_at, self.lost = ConnectionState.LOST, now, self._last_failed

    def set_aside(self) -> None:
        """Record that the transport closed a quiet body: nothing was lost with it."""
        self.state = ConnectionState.SET_ASIDE

    # The next connection

    def plan(self, cause: Optional[Exception], now: float, jitter: float) -> bool:
        """Plan the next connection, after the last one was lost or could not be made.

        Return True. But if the server has been away for `reconnect_for` seconds, and the attempt at
        the end of this time has failed, plan none, and return False. If the server asked for a
        pause that ends later, the last attempt follows that pause. `cause` is the error of the last
        connection, or `None` if there was no error: the server ended the connection, or sent
        nothing for too long.
        """
        held = now - self._opened_at if self.is_open else 0.0
        pause = self._draw_pause(held, jitter)
        if self.has_progressed or held >= self._times.reconnect_for:
            self.has_progressed = False
            self._away_until = now + self._times.reconnect_for
        elif self._is_last:
            self._last_failed = _failed_attempt(self._failures, 0.0, cause)
            return False
        if now < self._away_until:
            # The last connection is made when the time is over, not after it.
            pause = min(pause, self._away_until - now)
        asked = self._pause_asked_for(cause)
        pause = max(pause, asked)
        # A server that asks for a pause is not away meanwhile.
        self._away_until = max(self._away_until, now + asked)
        self.state, self._due_at = ConnectionState.LOST, now + pause
        self._is_last = self._due_at >= self._away_until
        self.lost = _failed_attempt(self._failures, pause, cause)
        return True

    def _draw_pause(self, held: float, jitter: float) -> float:
        """Return a random pause in seconds, between half of a bound and the whole bound.

        The bound doubles with each call, up to `reconnect_max`. It starts again at `reconnect_base`
        if the last connection was open for longer than the last bound: `held` seconds.
        """
        if held > self._last_bound:
            self._failures = 0
        doubled = self._times.reconnect_base * 2.0 ** min(self._failures, 64)
        self._last_bound = min(doubled, self._times.reconnect_max)
        self._failures += 1
        return self._last_bound * (1 + jitter) / 2

    def _pause_asked_for(self, cause: Optional[Exception]) -> float:
        """Return the seconds that the server asked to wait, at most `LONGEST_PAUSE`; 0 if none.

        This is the greater one of `Retry-After`, if `cause` has it, and the stream's `retry:`.
        """
        return min(max(retry_after_of(cause), (self.decoder.retry or 0) / 1000), LONGEST_PAUSE)


def _failed_attempt(number: int, pause: float, cause: Optional[Exception]) -> Attempt:
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
