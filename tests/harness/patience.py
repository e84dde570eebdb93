"""A second and a third attempt, for what a busy machine may have spoilt."""

from __future__ import annotations

import contextlib
from typing import Callable

from flowmaestro_core.http.messages import TransportFailure


def given_time(attempt: Callable[[float], None]) -> None:
    """Make an attempt; if it fails, more, for which everything takes so many times as long.

    A busy machine may use up a short limit, or stand still for longer than it. A mistake fails
    with every limit.
    """
    for times in (1.0, 4.0):
        with contextlib.suppress(AssertionError, TransportFailure):
            return attempt(times)
    return attempt(16.0)
