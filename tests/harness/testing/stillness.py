"""What nobody may ask for in memory: a sleep or a timer."""

from __future__ import annotations

import asyncio
import time
from typing import Any, List

import pytest
import trio


def watch_timers(patch: pytest.MonkeyPatch) -> List[str]:
    """The sleeps and timers asked for from now on; a sleep of nothing lets others run."""
    asked: List[str] = []

    def watched(owner: Any, name: str, place: int = 0) -> None:
        original = getattr(owner, name)

        def wrapper(*args: Any, **options: Any) -> Any:
            if args[place]:
                asked.append(name)
            return original(*args, **options)

        patch.setattr(owner, name, wrapper)

    watched(time, "sleep")
    watched(asyncio, "sleep")
    watched(asyncio.base_events.BaseEventLoop, "call_later", 1)
    watched(asyncio.base_events.BaseEventLoop, "call_at", 1)
    for name in ("sleep", "sleep_until", "move_on_after", "fail_after"):
        watched(trio, name)
    return asked
