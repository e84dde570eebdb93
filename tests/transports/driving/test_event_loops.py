"""Which event loop runs, where another thread is just importing one."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from flowmaestro_transports.driving.event_loops import current_task, running_loop


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_library_that_is_being_imported_has_no_running_loop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert current_task() is None
    assert running_loop() is None
