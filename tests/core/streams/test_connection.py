"""When a lost stream is reconnected, apart from the stream."""

from __future__ import annotations

from typing import Any, List

import pytest

from flowmaestro_core.errors import Attempt, ConnectionError, RateLimitError, ServerError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.connection import LONGEST_PAUSE, Connection


def pauses(connection: Connection, jitter: float = 0.5) -> List[float]:
    """The pauses between connections that are all refused at once, until it is given up."""
    now, made = 0.0, []
    connection.plan(None, now, jitter)
    while connection.reopen_at <= connection.give_up_at:
        made.append(connection.reopen_at - now)
        now = connection.reopen_at
        connection.plan(None, now, jitter)
    assert now == 60.0
    return made


def asking(kind: Any, seconds: float) -> Any:
    error = kind("no")
    error.retry_after = seconds
    return error


def test_they_come_ever_later_for_a_minute() -> None:
    expected = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0, 4.25]
    assert pauses(Connection(StreamTimes())) == expected


def test_the_unluckiest_draws_are_no_tight_loop() -> None:
    assert len(pauses(Connection(StreamTimes()), jitter=0.0)) < 40


def test_an_answer_begins_the_time_again_and_an_event_the_backoff_too() -> None:
    connection = Connection(StreamTimes())
    connection.plan(None, 0.0, 0.5)
    connection.answered(1.0)
    connection.plan(None, 70.0, 0.5)
    assert (connection.reopen_at, connection.give_up_at) == (70.5, 130.0)
    connection.opened(70.5)
    connection.progressed()
    connection.plan(None, 140.0, 0.5)
    assert (connection.reopen_at, connection.give_up_at) == (140.25, 200.0)


def test_an_answer_after_it_was_given_up_has_the_next_one_made_at_once() -> None:
    connection = Connection(StreamTimes())
    pauses(connection)
    assert connection.given_up
    connection.answered(61.0)
    assert (connection.reopen_at, connection.lost) == (61.0, None)


@pytest.mark.parametrize(
    ("tried_for", "held", "pause", "give_up_at"),
    [
        (60.0, 19.0, 0.5, 60.0),
        (60.0, 20.0, 0.25, 60.0),
        (60.0, 60.0, 0.25, 120.25),
        (7.0, 10.0, 0.5, 17.25),
    ],
)
def test_a_connection_that_held_without_an_event_begins_the_backoff_again(
    tried_for: float, held: float, pause: float, give_up_at: float
) -> None:
    """As behind a gateway that cuts each reply after 29 s, while a long node runs."""
    connection = Connection(StreamTimes(reconnect_for=tried_for))
    connection.plan(None, 0.0, 0.5)
    connection.opened(0.25)
    connection.plan(None, 0.25 + held, 0.5)
    assert (connection.reopen_at, connection.give_up_at) == (0.25 + held + pause, give_up_at)


@pytest.mark.parametrize(
    ("cause", "retry", "due"),
    [
        (None, 7000, 107.0),
        (asking(ServerError, 61.0), 7000, 161.0),
        (asking(ServerError, LONGEST_PAUSE + 1), None, 100.0 + LONGEST_PAUSE),
        (asking(RateLimitError, 60.0), None, 160.0),
    ],
)
def test_a_pause_that_was_asked_for_is_kept_within_reason(
    cause: Any, retry: Any, due: float
) -> None:
    connection = Connection(StreamTimes())
    if retry is not None:
        connection.decoder.feed(b"retry: %d\n\n" % retry)
    connection.plan(cause, 100.0, 0.5)
    assert connection.reopen_at == due
    assert connection.give_up_at == max(160.0, due)


def test_it_knows_which_attempt_failed() -> None:
    connection = Connection(StreamTimes())
    assert connection.lost is None
    connection.plan(None, 100.0, 0.5)
    assert connection.lost == Attempt(1, Phase.REPLY_BROKEN, None, 0.25)
    refused = ConnectionError("no")
    refused.attempts = (Attempt(1, Phase.NOT_SENT, "connection_error", None),)
    connection.plan(refused, 101.0, 0.5)
    assert connection.lost == Attempt(2, Phase.NOT_SENT, "connection_error", 0.5)


def test_a_new_connection_keeps_the_id_and_the_servers_time_and_forgets_the_rest() -> None:
    connection = Connection(StreamTimes())
    connection.opened(-1.0)
    connection.decoder.feed(b"retry: 7000\nid: 1\ndata\n\nid: 2\nda")
    connection.plan(None, 0.0, 0.5)
    assert not connection.is_open
    connection.opened(0.25)
    assert (connection.is_open, connection.openings) == (True, 2)
    assert connection.headers == (("Last-Event-ID", "1"),)
    assert [event.data for event in connection.decoder.feed(b"data: x\n\n")] == ["x"]
    connection.plan(None, 10.0, 0.5)
    assert connection.reopen_at == 17.0
