"""What the tests of `AnyioTransport` share: requests, handlers of the scripted server, failures."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Awaitable, Callable

import anyio
import pytest

from flowmaestro_core.http.messages import Headers, Request, TransportFailure
from flowmaestro_transports.anyio.transport import AnyioTransport

Scenario = Callable[[AnyioTransport], Awaitable[Any]]
Play = Callable[..., Any]
"""The fixture `play`: runs a scenario with a transport, on asyncio or trio."""


def get(server: Any, path: str = "/") -> Request:
    return Request("GET", server.url + path, Headers())


def post(server: Any, body: bytes) -> Request:
    return Request("POST", server.url + "/", Headers(), body)


async def failure(awaitable: Awaitable[Any]) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        await awaitable
    return caught.value


async def read_all(body: Any, patience: float = 5) -> bytes:
    parts = []
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


def replies_once(data: bytes) -> Callable[[Any], None]:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(data)

    return handler


def silent(peer: Any) -> None:
    """Reads and never answers."""
    peer.wait_closed()


@contextlib.contextmanager
def full_listener() -> Any:
    """An address that neither accepts nor refuses a connection: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


async def start_and_cancel(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, *args)
        await anyio.sleep(0.03)
        tasks.cancel_scope.cancel()
