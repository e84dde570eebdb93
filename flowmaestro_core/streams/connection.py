"""The connection of an event stream: decoding it, and reconnecting it with backoff."""

from __future__ import annotations

import math
from typing import Optional

from flowmaestro_core.errors import Attempt, FlowMaestroError, StreamError
from flowmaestro_core.http.messages import Fields, Phase, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_core.policy.retry import asked_pause
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.sse import SseDecoder

LONGEST_PAUSE = 600.0
"""Seconds; the SDK reconnects after that even if the server asks for a longer pause."""
LEAST_JITTER = 0.1
"""The least `jitter`, so that small random numbers do not make a tight loop of reconnecting."""


class Connection:
    """What is known of a stream's connections, and when the next one is due.

    Reconnecting is not retrying a call: `max_retries` does not count. The pauses grow until an
    event comes, or a connection holds for longer than any of them (`reconnect_max`). A lost stream
    is given up after `reconnect_for` seconds without an event, without an answer to a probe, and
    without a connection that holds for so long.

    Attributes:
        decoder: decodes the body that is open, or was open last.
        is_open: whether a body is open.
        openings: how many connections have been made.
        reopen_at: when the next one is due; infinity if the server has to answer a probe first.
        give_up_at: when a lost stream is given up, if an opening that begins then fails; infinity
            while there is progress.
        lost: the attempt that failed, until it has been reported.

    """

    def __init__(self, times: StreamTimes) -> None:
        self.decoder = SseDecoder()
        self.is_open = False
        self.openings = 0
        self.reopen_at = -math.inf
        self.give_up_at = math.inf
        self.lost: Optional[Attempt] = None
        self._times = times
        self._opened_at = -math.inf
        self._failures = 0

    @property
    def given_up(self) -> bool:
        """Whether the server was away for too long."""
        return self.reopen_at == math.inf

    @property
    def headers(self) -> Fields:
        """`Last-Event-ID`, if there is one that a header field can hold: printable ASCII."""
        sent = self.decoder.last_event_id
        fits = sent.isascii() and sent.isprintable() and sent == sent.strip()
        return (("Last-Event-ID", sent),) if sent and fits else ()

    def opened(self, now: float) -> None:
        """A connection was made."""
        self.is_open = True
        self._opened_at = now
        self.openings += 1
        self.decoder = SseDecoder(self.decoder.last_event_id, retry=self.decoder.retry)

    def progressed(self) -> None:
        """An event came."""
        self.give_up_at = math.inf
        self._failures = 0

    def answered(self, now: float) -> None:
        """The server has answered a probe. It is there, but its streams may still be broken."""
        self.give_up_at = math.inf
        if self.given_up:
            self.reopen_at, self.lost = now, None

    def plan(self, cause: Optional[Exception], now: float, jitter: float) -> None:
        """The connection was lost, or could not be made because of `cause`: plan the next one."""
        times = self._times
        held = now - self._opened_at if self.is_open else 0.0
        if held >= times.reconnect_max:
            self._failures = 0
        if held >= times.reconnect_for:
            self.give_up_at = math.inf
        self.is_open = False
        self.give_up_at = min(self.give_up_at, now + times.reconnect_for)
        bound = min(times.reconnect_base * 2.0 ** min(self._failures, 64), times.reconnect_max)
        delay = bound * max(jitter, LEAST_JITTER)
        asked = min(max(asked_pause(cause), (self.decoder.retry or 0) / 1000), LONGEST_PAUSE)
        if self.reopen_at < self.give_up_at:
            if now < self.give_up_at:
                delay = min(delay, self.give_up_at - now)
            self.reopen_at = now + max(delay, asked)
            self.give_up_at = max(self.give_up_at, now + asked)
        else:
            self.reopen_at = math.inf
        self._failures += 1
        self.lost = Attempt(self._failures, Phase.REPLY_BROKEN, delay=self.reopen_at - now)
        if isinstance(cause, FlowMaestroError) and cause.attempts:
            refused = cause.attempts[-1]
            self.lost = self.lost._replace(outcome=refused.outcome, code=refused.code)


def not_resumed(reason: str, cause: Optional[Exception], scrubber: SecretScrubber) -> StreamError:
    """The error of a stream that was lost because of `cause`; `None` for a clean end."""
    said = f"The event stream was lost before its end and could not be resumed: {reason}"
    if isinstance(cause, (FlowMaestroError, TransportFailure)):
        said += f"; the last failure: {scrubber.line(cause.message)}"
    error = StreamError(said)
    error.__cause__ = cause
    return error
