"""The handles that callers iterate over: shells around a driver, one blocking, one awaiting."""

from __future__ import annotations

from typing import Any, Generic, Optional, TypeVar

from flowmaestro_core.actions import Done
from flowmaestro_core.errors import StreamError
from flowmaestro_core.machine import Machine
from flowmaestro_transports.drivers import AsyncDriver, Driver

E = TypeVar("E")


class _Progress:
    """What a handle tells of its machine."""

    def __init__(self, machine: Machine[Any]) -> None:
        self._machine = machine
        self._over = False

    def _begin(self) -> None:
        if self._over:
            raise StreamError("This stream is over; ask for a new one", code="stream_closed")

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
    """Items as they come, for `for`. Close it, or use `with`, to leave early."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver.machine)
        self._driver = driver

    def __iter__(self) -> BlockingIteration[E]:
        self._begin()
        return self

    def __next__(self) -> E:
        if self._over:
            raise StopIteration
        try:
            action = self._driver.advance()
        except BaseException:
            self._over = True
            raise
        if isinstance(action, Done):
            self._over = True
            raise StopIteration
        item: E = action.item
        return item

    def close(self) -> None:
        """Release the connection now. Closing twice is harmless."""
        self._over = True
        self._driver.close()

    def __enter__(self) -> BlockingIteration[E]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class AwaitingIteration(_Progress, Generic[E]):
    """Items as they come, for `async for`. Close it, or use `async with`, to leave early."""

    def __init__(self, driver: AsyncDriver) -> None:
        super().__init__(driver.machine)
        self._driver = driver

    def __aiter__(self) -> AwaitingIteration[E]:
        self._begin()
        return self

    async def __anext__(self) -> E:
        if self._over:
            raise StopAsyncIteration
        try:
            action = await self._driver.advance()
        except BaseException:
            self._over = True
            raise
        if isinstance(action, Done):
            self._over = True
            raise StopAsyncIteration
        item: E = action.item
        return item

    async def close(self) -> None:
        """Release the connection now. Closing twice is harmless."""
        self._over = True
        await self._driver.close()

    async def __aenter__(self) -> AwaitingIteration[E]:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
