"""The handles that callers iterate over: shells around a driver, one blocking, one awaiting.

A handle holds at most one connection, and lets go of it

* before it hands over a terminal event, and when the iteration ends or fails;
* when it is closed, or its `with` block is left, or the iterating task is cancelled;
* when it is collected: an awaiting one on the event loop that it belongs to, whichever thread
  the collection happens in.

So a loop that runs to the terminal event, or leaves with `break`, needs no `close`.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any, Generic, Optional, TypeVar

from flowmaestro_core.actions import Done
from flowmaestro_core.errors import StreamError
from flowmaestro_core.machine import Machine
from flowmaestro_transports.contract import AsyncTransport, Transport
from flowmaestro_transports.drivers import AsyncDriver, Driver, stream_closed
from flowmaestro_transports.interruptible import InterruptibleTransport

E = TypeVar("E")


class _Progress:
    """What a handle tells of its machine."""

    def __init__(self, machine: Machine[Any]) -> None:
        self._machine = machine

    @property
    def last_event_id(self) -> str:
        """The id that a reconnection resumes from; `""` when the server sends none."""
        return getattr(self._machine, "last_event_id", "")

    @property
    def reconnects(self) -> int:
        """How often the connection was made anew."""
        return getattr(self._machine, "reconnects", 0)

    @property
    def request_id(self) -> Optional[str]:
        """`X-Request-ID` of the reply that opened the stream, where a gateway adds one."""
        return getattr(self._machine, "request_id", None)


class BlockingIteration(_Progress, Generic[E]):
    """Items as they come, for `for`. Close it, or use `with`, to leave early.

    One thread iterates at a time: `next` beside another one raises `StreamError` (code
    `stream_busy`). Any thread may close it.
    """

    def __init__(self, machine: Machine[Any], transport: Transport) -> None:
        super().__init__(machine)
        self._driver = Driver(machine, transport)
        self._turn = threading.Lock()
        self._ended = False

    def __iter__(self) -> BlockingIteration[E]:
        """Itself. Raises `StreamError` (code `stream_closed`) when it has ended or is closed."""
        if self._ended or self._driver.closed:
            raise stream_closed()
        return self

    def __next__(self) -> E:
        """The next item.

        Raises `StopIteration` after the last one, and `StreamError` (code `stream_closed`) when
        the handle is closed, before or meanwhile, or has failed before.
        """
        if self._ended:
            raise StopIteration
        if not self._turn.acquire(blocking=False):
            raise _busy("thread")
        try:
            action = self._driver.advance()
        except StopIteration as stray:  # of a transport; it would pass for the end
            raise RuntimeError("the transport raised StopIteration") from stray
        finally:
            self._turn.release()
        if isinstance(action, Done):
            self._ended = True
            raise StopIteration
        item: E = action.item
        return item

    def close(self) -> None:
        """Release the connection now. Closing twice is harmless.

        From another thread, this wakes a `next` that waits for events, and it raises
        `StreamError` (code `stream_closed`). One that is connecting, asking for the execution
        or pausing before it reconnects does so as soon as it is through with that.
        """
        self._driver.close()

    def __enter__(self) -> BlockingIteration[E]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class AwaitingIteration(_Progress, Generic[E]):
    """Items as they come, for `async for`. Close it, or use `async with`, to leave early.

    One task iterates at a time: a second `anext` meanwhile raises `StreamError` (code
    `stream_busy`). Any task of the same event loop may close it.
    """

    def __init__(self, machine: Machine[Any], transport: AsyncTransport) -> None:
        super().__init__(machine)
        self._transport = InterruptibleTransport(transport)
        self._driver = AsyncDriver(machine, self._transport)
        self._busy = False
        self._ended = False

    def __aiter__(self) -> AwaitingIteration[E]:
        """Itself. Raises `StreamError` (code `stream_closed`) when it has ended or is closed."""
        if self._ended or self._driver.closed:
            raise stream_closed()
        return self

    async def __anext__(self) -> E:
        """As `BlockingIteration.__next__`, with `StopAsyncIteration`."""
        if self._ended:
            raise StopAsyncIteration
        if self._busy:
            raise _busy("task")
        self._busy = True
        try:
            action = await self._driver.advance()
        except StopAsyncIteration as stray:  # of a transport; it would pass for the end
            raise RuntimeError("the transport raised StopAsyncIteration") from stray
        finally:
            self._busy = False
        if isinstance(action, Done):
            self._ended = True
            raise StopAsyncIteration
        item: E = action.item
        return item

    async def close(self) -> None:
        """Release the connection now. Closing twice is harmless.

        From another task, this wakes an `anext`, whatever it waits for, and it raises
        `StreamError` (code `stream_closed`).
        """
        self._transport.interrupt()
        await self._driver.close()

    async def __aenter__(self) -> AwaitingIteration[E]:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __del__(self) -> None:
        body = self._driver.detach()
        home = self._transport.home
        if body is None or (home is not None and home.release(body)):
            return
        warnings.warn(
            "a stream was dropped, neither read to its end nor closed, and the event loop that "
            "could have released its connection is gone",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )


def _busy(who: str) -> StreamError:
    return StreamError(
        f"Another {who} is waiting for the next item; a stream has one reader at a time",
        code="stream_busy",
    )
