"""Carries out the steps of `http11` on the running event loop: asyncio's or trio's.

anyio does the waiting alone. The bytes move straight between the operating system and us, so a
wait that is cancelled has consumed nothing, and a socket is closed in one step: from a cancelled
task, or when its event loop is long gone. May touch: the network.
"""

from __future__ import annotations

import math
import socket
from typing import Any, Awaitable, Callable, List, Tuple, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from flowmaestro_transports.http11 import failures
from flowmaestro_transports.http11.dialing import literal
from flowmaestro_transports.http11.round_trip import AttemptDeadline
from flowmaestro_transports.http11.wire import IOSteps, IOWait, Readiness

T = TypeVar("T")

NETWORK_ERRORS = (*failures.NETWORK_ERRORS, anyio.ClosedResourceError)
"""What the peer and the network between can cause."""


async def look_up(host: str, port: int) -> List[Any]:
    """The addresses of a host. Raises `OSError`."""
    found = literal(host, port)
    if not found:  # else a resolver would cost a thread
        name = host.encode("idna").decode()  # as sockets read it; anyio would refuse more
        try:
            resolved = await anyio.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except RuntimeError:  # no thread can be started for it, as when the interpreter exits
            return socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)
        found = [(*each[:4], _with_scope(*each[4])) for each in resolved]
    return found


def _with_scope(address: str, port: int) -> Tuple[Any, ...]:
    """A socket's address. anyio writes the scope of a link-local one into the text of it."""
    address, _, scope = address.partition("%")
    return (address, port, 0, int(scope)) if scope else (address, port)


async def carry_out(steps: IOSteps[T], deadline: AttemptDeadline, scope: anyio.CancelScope) -> T:
    """Carry out steps, waiting as they say; gives what they return.

    The scope is cancelled at the deadline.
    """
    try:
        while True:
            want, socks, seconds = wait = next(steps)
            if deadline.phases is not None:
                scope.deadline = deadline.at
            if not socks:
                await checkpoint()
            elif len(socks) > 1 or seconds != math.inf or want is Readiness.EITHER:
                await _wait_for_any(wait)
            elif want is Readiness.READABLE:
                await anyio.wait_readable(socks[0])
            else:
                await anyio.wait_writable(socks[0])
    except StopIteration as end:
        result: T = end.value
        return result


async def _wait_for_any(wait: IOWait) -> None:
    async with anyio.create_task_group() as waits:
        waits.cancel_scope.deadline = anyio.current_time() + wait.seconds

        async def until(ready: Callable[[socket.socket], Awaitable[None]], sock: Any) -> None:
            await ready(sock)
            waits.cancel_scope.cancel()

        for sock in wait.socks:
            if wait.want is not Readiness.WRITABLE:
                waits.start_soon(until, anyio.wait_readable, sock)
            if wait.want is not Readiness.READABLE:
                waits.start_soon(until, anyio.wait_writable, sock)
