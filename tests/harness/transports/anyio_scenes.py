"""What the tests of `AnyioTransport` share: scenarios, handlers of a server, failures."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Coroutine, List

import anyio
import pytest

from flowmaestro_core.http.messages import TransportFailure
from flowmaestro_transports.anyio.transport import AnyioTransport

Scenario = Callable[[AnyioTransport], Awaitable[Any]]
Play = Callable[..., Any]
"""The fixture `play`: runs a scenario with a transport, on asyncio or trio."""


async def failure(awaitable: Awaitable[Any]) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        await awaitable
    return caught.value


async def read_all(body: Any, patience: float = 5) -> bytes:
    parts: List[bytes] = []
    while True:
        data = await body.read(patience)
        assert data is not None
        if not data:
            return b"".join(parts)
        parts.append(data)


def replies(data: bytes) -> Callable[[Any], None]:
    """A handler that answers every request with `data`."""

    def handler(peer: Any) -> None:
        while peer.read_request():
            peer.send(data)

    return handler


async def start_and_cancel(call: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, *args)
        await anyio.sleep(0.03)
        tasks.cancel_scope.cancel()
