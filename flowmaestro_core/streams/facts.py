"""What has happened to an event stream, as far as its next action depends on it."""

from __future__ import annotations

import math
from typing import Optional

from flowmaestro_core.errors import Attempt, FlowMaestroError, RateLimitError, TimeoutError
from flowmaestro_core.http.messages import Fields
from flowmaestro_core.policy.polling import FIRST_POLL, AdaptiveTimeout
from flowmaestro_core.policy.retry import retry_after_of
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.connection import (
    Absence,
    Connection,
    failed_attempt,
    greatest_pause,
    pause_asked_for,
)
from flowmaestro_core.streams.run_polls import RunPolls
from flowmaestro_core.streams.sse import SseDecoder

PROBE_BACKOFF = 1.5
"""How much longer each interval between the probes of a quiet stream is than the last one. With the
default `StreamTimes` these are 5, 7.5, 11, 17, 25 and then 30 s: a silence of a minute costs five
probes, one of an hour about 120."""
RECONNECT_GRACE = 1.0
"""Seconds for which a new connection may deliver the missed events, before a probe ends the
stream. A pause of 0.5 s and a round trip to another continent fit in."""


class StreamFacts:
    """The facts about a stream, of which `Deadlines` computes what counts now.

    All times are in seconds, on the clock that gives `now`. The clocks of silence stand still while
    the caller has the events, since nothing is read meanwhile: `resumed` moves the times that they
    count from.

    Attributes:
        times: the time limits of the client's streams.
        polls: the polls of a run; `None` for any other stream.
        can_probe: whether there is something to probe.
        silence: how long the stream may be without an event; `None` if it has a fixed timeout.
        ends_at: when the stream times out, if `silence` is `None`.
        event_at: when the last event came, or the time of `silence` began.
        quiet_since: when the last event came or the last probe ended, for the next probe.
        interval: how long after `quiet_since` the next probe is due.
        in_doubt: whether the execution may have ended unnoticed. The next probe is due at once.
        probed_at: when the last probe ended, or the stream began.
        not_before: no probe is sent before this time, because of the key's rate limit.
        probe_timeout: the timeout of the next probe.
        heard_at: when the last byte came, or the last connection was made.
        paused_at: when the machine last stopped reading, for a probe or to hand out events.
        connection: the state of the connection.
        decoder: decodes the body that is open, or was open last.
        openings: how many connections have been made.
        reconnects: how many times the caller was told of a reconnection.
        opened_at: when the last connection was made.
        reopen_at: when the next connection is due.
        losses: how many losses in a row have made the pauses longer.
        absence: how long the server may be away; `None` if it was heard of since the last loss.
        unreported: the last loss, or failure to connect, until it has been reported.
        sends_id: whether a reconnection may send `Last-Event-ID`.
        has_gap: whether a quiet body was closed, and no event has come since. If one comes, others
            may have been sent meanwhile.

    """

    def __init__(
        self, times: StreamTimes, *, can_probe: bool, polls: Optional[RunPolls] = None
    ) -> None:
        self.times: StreamTimes = times
        self.polls: Optional[RunPolls] = polls
        self.can_probe: bool = can_probe

        self.silence: Optional[float] = None
        self.ends_at: float = math.inf
        self.event_at: float = 0.0
        self.quiet_since: float = 0.0
        self.interval: float = times.event_idle
        self.in_doubt: bool = False
        self.probed_at: float = 0.0
        self.not_before: float = 0.0
        self.probe_timeout: AdaptiveTimeout = AdaptiveTimeout()
        self.heard_at: float = 0.0
        self.paused_at: float = 0.0

        self.connection: Connection = Connection.UNOPENED
        self.decoder: SseDecoder = SseDecoder()
        self.openings: int = 0
        self.reconnects: int = 0
        self.opened_at: float = 0.0
        self.reopen_at: float = 0.0
        self.losses: int = 0
        self.absence: Optional[Absence] = None
        self.unreported: Optional[Attempt] = None
        self.sends_id: bool = True
        self.has_gap: bool = False

    @property
    def is_open(self) -> bool:
        """Whether a body is open."""
        return self.connection in (Connection.LIVE, Connection.OPEN)

    @property
    def was_open(self) -> bool:
        """Whether any connection has been made."""
        return self.openings > 0

    @property
    def polls_until_deadline(self) -> bool:
        """Whether a stream that opens no more connections is probed until its deadline.

        If not, it is probed at most once.
        """
        return self.can_probe and self.silence is not None

    @property
    def headers(self) -> Fields:
        """The header fields of a reconnection: `Last-Event-ID`, or none.

        There is none if the last id of the server is missing, empty or not printable ASCII, or
        begins or ends with a space. Nor is there one after a server has refused it (431).
        """
        if not self.sends_id:
            return ()
        sent = self.decoder.last_event_id
        fits = sent.isascii() and sent.isprintable() and sent == sent.strip()
        return (("Last-Event-ID", sent),) if sent and fits else ()

    # Time

    def begin(self, now: float, timeout: float) -> None:
        """Record that the stream begins now. It may last for `timeout` seconds."""
        self.ends_at = now + timeout
        self._start_clocks(now)

    def allow_silence(self, now: float, seconds: float) -> None:
        """Let the stream time out after `seconds` without an event, from now on.

        Its connection may then be without a byte for that long, too, before it counts as lost.
        """
        self.silence = seconds
        self._start_clocks(now)

    def _start_clocks(self, now: float) -> None:
        self.event_at = self.heard_at = now
        self._expect_quiet(now)

    def _expect_quiet(self, now: float) -> None:
        """Count the time to the next probe from now."""
        self.quiet_since = self.probed_at = now
        self.in_doubt = False
        if self.polls is not None:
            self.not_before = max(self.not_before, self.polls.plan(now))

    def resumed(self, now: float) -> None:
        """Record that the caller wants the next event: the clocks of silence run again."""
        away = now - self.paused_at
        self.heard_at += away
        self.quiet_since += away
        self.probed_at += away
        self.event_at += away

    # The connection

    def opened(self, now: float) -> bool:
        """Record that a connection was made. Return whether it replaces a lost one."""
        # The first connection replaces none, even if earlier attempts to make it failed. One after
        # `SET_ASIDE` does if it brings an event (`has_gap`).
        reconnected = self.connection is Connection.LOST and self.was_open
        self.connection = Connection.OPEN
        self.opened_at = self.heard_at = now
        if self.polls is not None:
            self.polls.opened()
        elif not self.was_open:
            self.quiet_since = now
        self.openings += 1
        # An incomplete event of the lost connection is dropped (WHATWG, 9.2.6).
        self.decoder = SseDecoder(self.decoder.last_event_id, retry=self.decoder.retry)
        return reconnected

    def event_came(self, now: float) -> None:
        """Record that an event came. `connected` and keepalives are none."""
        self.connection = Connection.LIVE
        self.event_at = self.quiet_since = now
        self.interval = self.times.event_idle
        self.in_doubt = False
        self.absence = None
        if self.polls is not None:
            self.polls.event_came(now)

    def reconnected(self) -> int:
        """Record that the caller is told of a reconnection. Return its number, from 1."""
        self.reconnects += 1
        self.has_gap = False
        return self.reconnects

    def lost(self, cause: Optional[Exception], now: float, jitter: float) -> bool:
        """Plan the next connection, after the last one was lost or could not be made.

        Return True. But if the server has been away for `reconnect_for` seconds, and the attempt at
        the end of this time has failed, plan none, and return False. If the server asked for a
        pause that ends later, the last attempt follows that pause. `cause` is the error of the last
        connection, or `None` if there was no error: the server ended the connection, or sent
        nothing for too long.
        """
        times = self.times
        held = now - self.opened_at if self.is_open else 0.0
        if isinstance(cause, RateLimitError):
            # The limit is that of the key, so a probe would be refused, too.
            self.not_before = max(self.not_before, now + retry_after_of(cause))
        self._delay_probe(now)
        if held > greatest_pause(self.losses, times):
            self.losses = 0
        self.losses += 1
        pause = greatest_pause(self.losses, times) * (1 + jitter) / 2
        if self.absence is None or held >= times.reconnect_for:
            away_until = now + times.reconnect_for
        elif self.absence.at_last_attempt:
            self.unreported = failed_attempt(self.losses, 0.0, cause)
            return False
        else:
            away_until = self.absence.until
        if now < away_until:
            # The last connection is made when the time is over, not after it.
            pause = min(pause, away_until - now)
        pause = max(pause, pause_asked_for(cause, self.decoder.retry))
        self.connection, self.reopen_at = Connection.LOST, now + pause
        self.absence = Absence(away_until, at_last_attempt=self.reopen_at >= away_until)
        self.unreported = failed_attempt(self.losses, pause, cause)
        return True

    def _delay_probe(self, now: float) -> None:
        """Move a probe that is due within `RECONNECT_GRACE` to the end of that time.

        A new connection may deliver events meanwhile. A probe that is due already is not delayed.
        Nothing is delayed if the server was not heard of since the last loss. Otherwise connections
        that are lost again and again would delay all probes. Nor is the poll of a run.
        """
        is_due = self.in_doubt or now >= self.quiet_since + self.interval
        if self.polls is None and self.absence is None and not is_due:
            self.quiet_since = max(self.quiet_since, now + RECONNECT_GRACE - self.interval)

    def set_aside(self, now: float) -> None:
        """Record that the transport closed a quiet body.

        What it had received was read. What the server sends before the next opening is missed.
        """
        self.connection, self.reopen_at, self.in_doubt = Connection.SET_ASIDE, now, True
        self.has_gap = True

    def reopen(self, now: float) -> None:
        """Plan a connection for now, although `lost` has returned False."""
        self.connection, self.reopen_at = Connection.LOST, now

    def end_with_probes(self, now: float) -> None:
        """Record that no connection is open or planned: only probes may show how the stream ends.

        If `polls_until_deadline` is True, they follow at short intervals, and the time that the
        stream may be without an event is counted from now.
        """
        self.connection, self.in_doubt = Connection.CLOSED, True
        if self.silence is not None:
            self.event_at, self.interval = now, FIRST_POLL

    # Probes

    def probe_answered(self, pause: float, now: float) -> None:
        """Record that a probe succeeded. The pace allows the next one in `pause` seconds."""
        self.probe_timeout.record_latency(now - self.paused_at)
        self.absence = None
        self.not_before = now + pause
        self._probed(now)

    def probe_failed(self, error: FlowMaestroError, now: float) -> None:
        """Record that a probe failed with `error`.

        The next one is not sent before the `Retry-After` of `error` is over, if `error` has one.
        If this one timed out, the next one gets more time.
        """
        if isinstance(error, TimeoutError):
            self.probe_timeout.record_timeout()
        self.not_before = now + retry_after_of(error)
        self._probed(now)

    def _probed(self, now: float) -> None:
        # An answer that is only polled for is expected within seconds, so the polls stay frequent.
        is_polled = self.connection is Connection.CLOSED and self.silence is not None
        longest = self.times.event_idle if is_polled else self.times.event_idle_max
        self.interval = min(self.interval * PROBE_BACKOFF, longest)
        self.heard_at += now - self.paused_at  # Nothing was read during the probe.
        self._expect_quiet(now)
