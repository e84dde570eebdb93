"""Several at once: threads that must come to an end, and tasks on either event loop."""

from __future__ import annotations

import threading

import anyio
import pytest

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
PATIENCE = 60.0
"""Seconds of true time, for a thread that must come to an end."""


def in_threads(*functions):
    """Run each in a thread of its own; raises what one of them raised."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a call waits for something that never comes"
    if errors:
        raise errors[0]


def in_tasks(backend, main):
    async def bounded():
        with anyio.fail_after(PATIENCE):
            await main()

    anyio.run(bounded, backend=backend)


def together(count):
    """A gate that opens once `count` threads stand before it."""
    return threading.Barrier(count, timeout=PATIENCE)
