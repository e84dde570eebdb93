"""When a lost stream is connected anew, apart from the stream."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from flowmaestro_core.errors import Attempt, ConnectionError, RateLimitError, ServerError
from flowmaestro_core.http.messages import Phase
from flowmaestro_core.policy.retry import RetryPolicy
from flowmaestro_core.policy.stream_times import StreamTimes
from flowmaestro_core.streams.reconnections import LONGEST_PAUSE, Reconnections


def reconnections(**policy: Any) -> Reconnections:
    return Reconnections(StreamTimes(), RetryPolicy(**policy))


def planned(
    made: Reconnections,
    cause: Optional[Exception] = None,
    *,
    retry: Optional[int] = None,
    remaining: float = 1e9,
) -> Optional[str]:
    return made.plan(cause, retry=retry, remaining=remaining, now=100.0, jitter=0.5)


def asking(kind: Any, seconds: float) -> Any:
    error = kind("no")
    error.retry_after = seconds
    return error


def test_they_come_ever_later_and_are_bounded() -> None:
    made = reconnections()
    for pause in (0.25, 0.5, 1.0):
        assert not made.are_used_up
        assert planned(made) is None
        assert made.due_at == 100.0 + pause
    assert made.are_used_up
    assert planned(made) == "max_retries=3 is used up"


def test_progress_begins_the_count_anew() -> None:
    made = reconnections(max_retries=1)
    planned(made)
    made.bore_fruit()
    assert planned(made) is None


def test_where_none_is_allowed_none_is_used_up() -> None:
    made = reconnections(max_retries=0)
    assert planned(made) == "max_retries=0 is used up"
    assert not made.are_used_up


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


def test_none_comes_after_the_deadline() -> None:
    assert "deadline" in str(planned(reconnections(), remaining=0.1))


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
