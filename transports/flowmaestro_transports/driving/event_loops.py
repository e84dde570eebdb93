"""The event loop that runs, asyncio's or trio's, and how to reach it from elsewhere.

Imports neither: a running loop has been imported already. Another thread may be importing one.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Coroutine, NamedTuple, Optional, Set

from flowmaestro_transports.contract import AsyncOpenResponse, Releasable

# State of the module, on purpose: asyncio keeps only weak references to tasks, and nothing of the
# stream that was dropped is left to keep them.
_closing: Set[Any] = set()


class EventLoop(NamedTuple):
    """A running event loop.

    Attributes:
        token: what tells it from others.
        soon: has it call a function, from any thread; `RuntimeError` once it is gone.
        start: starts a coroutine function on it, from within.

    """

    token: object
    soon: Callable[..., object]
    start: Callable[..., object]

    def release(self, body: AsyncOpenResponse) -> bool:
        """Release a body that was opened here and that has no owner any more.

        At once on the loop's own thread, else as soon as the loop comes to it. False if the
        loop is gone; then what can be done without it has been done.
        """
        here = running_loop()
        try:
            if here is not None and here.token is self.token:
                self._let_go(body)
            else:
                self.soon(self._let_go, body)
        except RuntimeError:
            if isinstance(body, Releasable):
                with suppress(RuntimeError):
                    body.release()
            return False
        return True

    def _let_go(self, body: AsyncOpenResponse) -> None:
        if isinstance(body, Releasable):
            body.release()
        else:
            self.start(_close, body)


def running_loop() -> Optional[EventLoop]:
    """Return the loop of asyncio or trio that runs in this thread, or None if none does."""
    trio: Any = getattr(sys.modules.get("trio"), "lowlevel", None)
    if trio is not None and trio.in_trio_run():
        token = trio.current_trio_token()
        return EventLoop(token, token.run_sync_soon, trio.spawn_system_task)
    asyncio: Any = sys.modules.get("asyncio")
    try:
        loop = asyncio.get_running_loop()
    except (AttributeError, RuntimeError):
        return None
    return EventLoop(loop, loop.call_soon_threadsafe, partial(_start_task, loop))


def current_task() -> Any:
    """Return the task of asyncio or trio that runs in this thread, or None if none does."""
    trio: Any = getattr(sys.modules.get("trio"), "lowlevel", None)
    if trio is not None and trio.in_trio_task():
        return trio.current_task()
    asyncio: Any = sys.modules.get("asyncio")
    try:
        return asyncio.current_task()
    except (AttributeError, RuntimeError):
        return None


def _start_task(
    loop: Any,
    close: Callable[[AsyncOpenResponse], Coroutine[Any, Any, None]],
    body: AsyncOpenResponse,
) -> None:
    """Start a coroutine function on an event loop of asyncio."""
    task = loop.create_task(close(body))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _close(body: AsyncOpenResponse) -> None:
    with suppress(Exception):  # nobody is left to hear of it, and trio would end the whole run
        await body.close()
