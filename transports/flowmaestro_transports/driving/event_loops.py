"""The running event loop of asyncio or trio, and how to call a function on it from another thread.

Imports neither library: the library of a running loop has been imported already. Another thread may
be importing trio meanwhile, so the module can handle a trio that is only half imported.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Coroutine, NamedTuple, Optional, Set

from flowmaestro_transports.contract import AsyncOpenResponse, Releasable
from flowmaestro_transports.primitives.fork_guard import ForkGuard

# State of the module, on purpose: asyncio keeps only weak references to tasks, and the stream that
# a task closes was collected, so nothing else refers to the task.
_closing: Set[Any] = set()


class EventLoop(NamedTuple):
    """A running event loop.

    Attributes:
        token: an object that identifies the loop.
        soon: schedules a call of a function on the loop, from any thread. Raises `RuntimeError` if
            the loop has ended.
        start: starts a coroutine function on the loop. Must be called on the loop's thread.
        process: tells whether this process is a child that was forked from that of the loop.

    """

    token: object
    soon: Callable[..., object]
    start: Callable[..., object]
    process: ForkGuard

    def release(self, body: AsyncOpenResponse) -> bool:
        """Release a body that was opened on this loop and whose stream was collected.

        In the thread where the loop runs, the body is released at once; elsewhere, the loop is
        asked to release it. A body that is not `Releasable` is closed by a new task. Return True.

        If the loop has ended, a `Releasable` body is released as far as that is possible without a
        loop, and False is returned. In a child after `os.fork`, whose copy of the loop never runs,
        the same is done, but True is returned, because the stream goes on in the parent.
        """
        if self.process.forked:
            release_without_loop(body)
            return True
        here = running_loop()
        try:
            if here is not None and here.token is self.token:
                self._release_on_loop(body)
            else:
                self.soon(self._release_on_loop, body)
        except RuntimeError:
            release_without_loop(body)
            return False
        return True

    def _release_on_loop(self, body: AsyncOpenResponse) -> None:
        if isinstance(body, Releasable):
            body.release()
        else:
            self.start(_close, body)


def release_without_loop(body: AsyncOpenResponse) -> None:
    """Release a body, if it is `Releasable`, as far as that is possible without its loop."""
    if isinstance(body, Releasable):
        with suppress(RuntimeError):
            body.release()


def running_loop() -> Optional[EventLoop]:
    """Return the loop of asyncio or trio that runs in this thread, or None if none does."""
    trio: Any = getattr(sys.modules.get("trio"), "lowlevel", None)
    if trio is not None and trio.in_trio_run():
        token = trio.current_trio_token()
        return EventLoop(token, token.run_sync_soon, trio.spawn_system_task, ForkGuard())
    asyncio: Any = sys.modules.get("asyncio")
    try:
        loop = asyncio.get_running_loop()
    except (AttributeError, RuntimeError):
        return None
    return EventLoop(loop, loop.call_soon_threadsafe, partial(_start_task, loop), ForkGuard())


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
    """Start the coroutine `close(body)` as a task on an event loop of asyncio."""
    task = loop.create_task(close(body))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def _close(body: AsyncOpenResponse) -> None:
    with suppress(Exception):
        # No caller is left to get the error, and trio would end the whole run.
        await body.close()
