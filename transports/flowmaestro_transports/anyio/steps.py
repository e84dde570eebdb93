"""Carries out the steps of `http11` on the running event loop: asyncio's or trio's.

anyio does the waiting alone. The bytes move straight between the operating system and us, so a
wait that is cancelled has consumed nothing, and a socket is closed in one step: from a cancelled
task, or when its event loop is long gone.
"""

from __future__ import annotations

import socket
from typing import Generator, TypeVar

import anyio

from flowmaestro_transports.http11 import failures
from flowmaestro_transports.http11.wire import Want

T = TypeVar("T")

NETWORK_ERRORS = (*failures.NETWORK_ERRORS, anyio.ClosedResourceError)
"""What the peer and the network between can cause."""


async def _wait_until_readable(sock: socket.socket, others: anyio.CancelScope) -> None:
    await anyio.wait_readable(sock)
    others.cancel()


async def carry_out(steps: Generator[Want, None, T], sock: socket.socket) -> T:
    """Carry out steps on a socket, waiting as they say; gives what they return."""
    try:
        while True:
            want = next(steps)
            if want is Want.READABLE:
                await anyio.wait_readable(sock)
            elif want is Want.WRITABLE:
                await anyio.wait_writable(sock)
            else:
                async with anyio.create_task_group() as waits:
                    waits.start_soon(_wait_until_readable, sock, waits.cancel_scope)
                    await anyio.wait_writable(sock)
                    waits.cancel_scope.cancel()
    except StopIteration as end:
        result: T = end.value
        return result
