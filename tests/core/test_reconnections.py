"""When a lost stream is connected anew, apart from the stream."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from flowmaestro_core.errors import Attempt, ConnectionError, RateLimitError, ServerError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.reconnections import LONGEST_PAUSE, Reconnections


def reconnections() -> Reconnections:
    return Reconnections(StreamTimes())


def planned(
    made: Reconnections,
    cause: Optional[Exception] = None,
    *,
    retry: Optional[int] = None,
    now: float = 100.0,
) -> Optional[str]:
    return made.plan(cause, retry=retry, now=now, jitter=0.5)


def asking(kind: Any, seconds: float) -> Any:
    error = kind("no")
    error.retry_after = seconds
    return error


def test_they_come_ever_later_and_are_bounded() -> None:
    made = reconnections()
    pauses = []
    while planned(made, now=made.due_at) is None:
        assert not made.used_up
        pauses.append(made.due_at - sum(pauses))
    assert made.used_up
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0, 4.25]


def test_progress_begins_the_time_again_and_an_answer_does_but_not_the_count() -> None:
    made = reconnections()
    assert planned(made, now=0.0) is None
    made.server_answers()
    assert planned(made, now=70.0) is None
    assert made.due_at == 70.5
    made.bore_fruit()
    assert planned(made, now=140.0) is None
    assert made.due_at == 140.25


def test_the_unluckiest_draws_are_no_tight_loop() -> None:
    made = reconnections()
    count = 0
    while made.plan(None, retry=None, now=made.due_at, jitter=0.0) is None:
        count += 1
    assert count < 40


@pytest.mark.parametrize(
    ("cause", "retry", "due"),
    [
        (None, 7000, 107.0),
        (asking(ServerError, 61.0), 7000, 161.0),
        (asking(ServerError, LONGEST_PAUSE), None, 100.0 + LONGEST_PAUSE),
        (asking(RateLimitError, 60.0), None, 160.0),
    ],
)
def test_a_pause_that_was_asked_for_is_kept(cause: Any, retry: Any, due: float) -> None:
    made = reconnections()
    assert planned(made, cause, retry=retry) is None
    assert made.due_at == due


@pytest.mark.parametrize(
    "cause", [asking(ServerError, LONGEST_PAUSE + 1), asking(RateLimitError, 61.0)]
)
def test_one_that_is_too_long_is_not(cause: Any) -> None:
    assert "the server asks to wait" in str(planned(reconnections(), cause))


def test_who_watches_is_told_once_why() -> None:
    made = reconnections()
    assert made.tell() is None
    planned(made)
    assert made.tell() == Attempt(1, Phase.REPLY_BROKEN, None, 0.25)
    assert made.tell() is None
    refused = ConnectionError("no")
    refused.attempts = (Attempt(1, Phase.NOT_SENT, "connection_error", None),)
    planned(made, refused)
    assert made.tell() == Attempt(2, Phase.NOT_SENT, "connection_error", 0.5)
