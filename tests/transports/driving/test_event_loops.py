"""Which event loop runs, and what it releases: beside an import, and in a forked child."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any, List, Optional

import pytest

from flowmaestro_core.http.messages import Headers
from flowmaestro_transports.driving.event_loops import EventLoop, current_task, running_loop
from flowmaestro_transports.primitives.fork_guard import ForkGuard


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_library_that_is_being_imported_has_no_running_loop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert current_task() is None
    assert running_loop() is None


class Body:
    """An open body that can be released without waiting."""

    status, headers = 200, Headers()
    released = False

    async def read(self, patience: float) -> Optional[bytes]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def release(self) -> None:
        self.released = True


def test_body_that_a_forked_child_drops_is_released_without_the_loop_of_the_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The child has only a copy of the loop, and a call that it schedules never comes."""
    scheduled: List[Any] = []
    loop = EventLoop(object(), lambda *call: scheduled.append(call), scheduled.append, ForkGuard())
    bodies = Body(), Body()
    assert loop.release(bodies[0])
    assert (bodies[0].released, len(scheduled)) == (False, 1)
    number = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: number)
    assert loop.release(bodies[1])
    assert (bodies[1].released, len(scheduled)) == (True, 1)
