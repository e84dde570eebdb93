"""The deadlines of an event stream: what counts now, and until when."""

from __future__ import annotations

import math

from flowmaestro_core.streams.connection import Connection
from flowmaestro_core.streams.facts import RECONNECT_GRACE, StreamFacts

MAX_INTERVALS_WITHOUT_PROBE = 10
"""A probe is due after this many times `event_idle_max`, even while events come. These events may
be a mere heartbeat, or the same event on each connection. Ten are five minutes by default: a
probe every five minutes costs a key little."""
LARGEST_SHARE_OF_OPENING = 0.9
"""An opening is expected to take as long as the last poll, but at most this share of the interval
between the polls of a run. Without the limit, no opening would fit between polls that take longer
than their interval. The tenth that is left is when such an opening may begin."""


class Deadlines:
    """The points in time until which a stream waits, computed from its facts at the time `now`.

    | deadline   | counts                    | until                                            |
    |------------|---------------------------|--------------------------------------------------|
    | `end_at`   | always                    | the timeout, or `silence` after the last event   |
    | `lost_at`  | while a body is open      | the longer one of `bytes_idle` and `silence`     |
    |            |                           | after the last byte                              |
    | `probe_at` | if there is what to probe | `interval` after the last event or probe, or the |
    |            |                           | poll of a run that has no live connection, or at |
    |            |                           | once if in doubt; ten times `event_idle_max`     |
    |            |                           | after the last probe at the latest; when the     |
    |            |                           | server allows it                                 |
    | `open_at`  | while no body is open; in | the end of the pause after a loss; else at once  |
    |            | a run or after a body was |                                                  |
    |            | set aside, if no probe    |                                                  |
    |            | comes before it           |                                                  |

    Attributes:
        end_at: when the stream times out.
        lost_at: when the open connection counts as lost, because no byte came; infinity if none is
            open.
        probe_at: when the next probe is due; infinity if there is nothing to probe.
        open_at: when the next connection is due; infinity if none is.

    """

    # One is made for each read, so it is made in one call: no function fills in a frozen value.
    __slots__ = ("end_at", "lost_at", "open_at", "probe_at")

    def __init__(self, stream: StreamFacts, now: float) -> None:
        connection, times, polls = stream.connection, stream.times, stream.polls
        end_at, bytes_idle = stream.ends_at, times.bytes_idle
        if stream.silence is not None:
            end_at, bytes_idle = stream.event_at + stream.silence, max(bytes_idle, stream.silence)

        lost_at = probe_at = open_at = math.inf
        if stream.can_probe:
            due_at = stream.quiet_since + stream.interval
            if stream.in_doubt:
                due_at = -math.inf  # Only `not_before` delays it.
            elif polls is not None and connection is not Connection.LIVE:
                due_at = polls.due_at
            latest_at = stream.probed_at + MAX_INTERVALS_WITHOUT_PROBE * times.event_idle_max
            probe_at = max(min(due_at, latest_at), stream.not_before)

        if connection is Connection.LIVE or connection is Connection.OPEN:
            lost_at = stream.heard_at + bytes_idle
        elif connection is not Connection.CLOSED:
            open_at = max(now, stream.reopen_at)
            if polls is not None:
                # A connection that is made now must not delay the next poll.
                took = min(stream.probe_timeout.took, LARGEST_SHARE_OF_OPENING * polls.interval)
                waits_for_probe = open_at + took > probe_at
            else:
                # A stream that was set aside may be quiet because the execution has ended.
                waits_for_probe = connection is Connection.SET_ASIDE and open_at >= probe_at
            if waits_for_probe:
                open_at = math.inf
        self.end_at: float = end_at
        self.lost_at: float = lost_at
        self.probe_at: float = probe_at
        self.open_at: float = open_at


def opening_until(stream: StreamFacts, probe_at: float, now: float) -> float:
    """Return the deadline of an opening that begins now. The next probe is due at `probe_at`.

    The first opening may take as long as any call: infinity. A later one must not delay a probe for
    longer than `RECONNECT_GRACE`, in which the new connection may deliver the terminal event. In a
    run, the first one may delay a poll by an interval, and the later ones delay none.
    """
    is_first = stream.connection is Connection.UNOPENED
    if stream.polls is not None:
        return max(probe_at, now + stream.polls.interval) if is_first else probe_at
    return math.inf if is_first else max(probe_at, now + RECONNECT_GRACE)
