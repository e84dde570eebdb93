"""Each test of the contract has a world of its own: a fake, reached in memory or over a socket.

On sockets both ends live `SPEED` seconds in each second, so that a workflow of 2.6 s does not take
as long.
"""

from __future__ import annotations

import functools
import random
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Awaitable, Callable, Dict, Optional, TypeVar

import anyio

from flowmaestro import AsyncFlowMaestroClient, FlowMaestroClient
from flowmaestro.testing import (
    AsyncMemoryTransport,
    FakeFlowMaestro,
    MemoryTransport,
    running_server,
)
from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports import (
    AsyncOpenResponse,
    AsyncTransport,
    OpenResponse,
    SocketTransport,
    Transport,
)
from tests.harness.runners import Runner

KEY = "fm_live_..."
SPEED = 20.0

T = TypeVar("T")


def in_loop(backend: str, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run a coroutine function in a new event loop."""
    options = {"debug": False} if backend == "asyncio" else {}
    return anyio.run(function, *args, backend=backend, backend_options=options)


class World:
    """A fake, and clients that reach it on one runner. Use it in a `with` block."""

    def __init__(self, runner: Runner, fake: FakeFlowMaestro, speed: float = SPEED) -> None:
        self.runner = runner
        self.fake = fake
        self.url: Optional[str] = None
        self._speed = speed
        self._open = ExitStack()
        self._open_in_loop = AsyncExitStack()

    def __enter__(self) -> World:
        if self.runner.wired:
            self.url = self._open.enter_context(running_server(self.fake, speed=self._speed))
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    async def close_in_loop(self) -> None:
        """Close the async clients; to be called before their loop ends."""
        await self._open_in_loop.aclose()

    def client(self, *args: Any, **options: Any) -> FlowMaestroClient:
        """A sync client on this runner's transport, or on sockets beside an async one."""
        transport: Transport
        if self.runner.wired:
            sync = self.runner.backend is None
            transport = Hurried(self.runner.make() if sync else SocketTransport(), self._speed)
        else:
            transport = MemoryTransport(self.fake)
        client = FlowMaestroClient(*args, **self._reaching(options), transport=transport)
        self._open.callback(client.close)
        return client

    def async_client(self, *args: Any, **options: Any) -> AsyncFlowMaestroClient:
        """An async client on this runner's transport."""
        transport = async_transport(self.runner, self.fake, self._speed)
        client = AsyncFlowMaestroClient(*args, **self._reaching(options), transport=transport)
        self._open_in_loop.push_async_callback(client.close)
        return client

    @functools.cached_property
    def observer(self) -> FlowMaestroClient:
        """A client that looks at the fake from the side."""
        return FlowMaestroClient(KEY, transport=MemoryTransport(self.fake))

    def _reaching(self, options: Dict[str, Any]) -> Dict[str, Any]:
        """The options, but for an address in the wide world."""
        return {**options, "base_url": self.url} if self.url else options


def async_transport(runner: Runner, fake: FakeFlowMaestro, speed: float = SPEED) -> AsyncTransport:
    return HurriedAsync(runner.make(), speed) if runner.wired else AsyncMemoryTransport(fake)


class Hurried:
    """A sync transport whose clock runs `speed` times as fast; time limits stay as they are."""

    def __init__(self, inner: Transport, speed: float) -> None:
        self._inner = inner
        self._speed = speed
        self.random = random.Random(0)

    def send(self, request: Request, timeout: float) -> Response:
        return self._inner.send(request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        return HurriedBody(self._inner.open(request, timeout), self._speed)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds / self._speed)

    def now(self) -> float:
        return self._inner.now() * self._speed

    def close(self) -> None:
        self._inner.close()


class HurriedBody:
    def __init__(self, inner: OpenResponse, speed: float) -> None:
        self.status, self.headers = inner.status, inner.headers
        self._inner = inner
        self._speed = speed

    def read(self, patience: float) -> Optional[bytes]:
        return self._inner.read(patience / self._speed)

    def close(self) -> None:
        self._inner.close()


class HurriedAsync:
    """`Hurried` for an async transport."""

    def __init__(self, inner: AsyncTransport, speed: float) -> None:
        self._inner = inner
        self._speed = speed
        self.random = random.Random(0)

    async def send(self, request: Request, timeout: float) -> Response:
        return await self._inner.send(request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        return HurriedAsyncBody(await self._inner.open(request, timeout), self._speed)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds / self._speed)

    def now(self) -> float:
        return self._inner.now() * self._speed

    async def close(self) -> None:
        await self._inner.close()


class HurriedAsyncBody:
    def __init__(self, inner: AsyncOpenResponse, speed: float) -> None:
        self.status, self.headers = inner.status, inner.headers
        self._inner = inner
        self._speed = speed

    async def read(self, patience: float) -> Optional[bytes]:
        return await self._inner.read(patience / self._speed)

    async def close(self) -> None:
        await self._inner.close()
