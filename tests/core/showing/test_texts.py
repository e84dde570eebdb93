"""The server's times."""

from __future__ import annotations

import math
from typing import Any, Optional

import pytest

from flowmaestro_core.payloads.json_values import waits_for_person
from flowmaestro_core.showing.texts import event_time, in_words


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1500, 1.5),
        (1500.5, 1.5005),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:02", 2.0),  # without a zone it is UTC
        *((odd, None) for odd in (None, -1, 1e15, 10**400, math.nan, math.inf, "soon", "", [], {})),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
        ("9" * 10_000, None),
    ],
)
def test_a_time_in_milliseconds_or_in_iso_8601_is_seconds(
    value: Any, seconds: Optional[float]
) -> None:
    assert event_time(value) == seconds


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0, "0.00 s"), (0.0071, "7.1 ms"), (0.05, "0.05 s"), (59.99, "59.99 s"), (90, "1.5 min")),
        *((7200, "2.0 h"), (172_800, "2.0 d"), (1e11, "1157407.4 d")),
    ],
)
def test_a_duration_in_words(seconds: float, said: str) -> None:
    assert in_words(seconds) == said


@pytest.mark.parametrize(
    ("event", "waits"),
    [
        ({"type": "node:completed", "metadata": {"paused": True}}, True),
        ({"type": "node:completed", "metadata": {"paused": False}}, False),
        ({"type": "node:completed", "metadata": "paused"}, False),
        ({"type": "node:completed"}, False),
        ({"type": "node:started", "metadata": {"paused": True}}, False),
    ],
)
def test_a_completed_node_may_wait_for_a_person(event: Any, waits: bool) -> None:
    assert waits_for_person(event) is waits
