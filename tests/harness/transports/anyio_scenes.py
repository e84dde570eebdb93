"""What the tests of `AnyioTransport` share: scenarios, handlers of a server, failures."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, List

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
