"""Running a coroutine function to its end, so that Ctrl-C means the same on every Python."""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any, Awaitable, Callable

import anyio


def run(function: Callable[..., Awaitable[Any]], *arguments: Any, backend: str = "asyncio") -> None:
    """Run `function(*arguments)` on an event loop of its own; Ctrl-C raises `KeyboardInterrupt`.

    Before Python 3.11 it comes out of `anyio.run` as a cancellation.
    """
    try:
        anyio.run(function, *arguments, backend=backend)
    except CancelledError:
        raise KeyboardInterrupt from None
