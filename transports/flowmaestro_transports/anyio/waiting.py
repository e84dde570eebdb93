"""Carries out the steps of `http11` on the running event loop, asyncio or trio.

anyio only waits, and resolves names. We read and write the sockets ourselves, so a cancelled wait
has consumed nothing, and a socket can be closed at once: in a cancelled task, or after its event
loop has ended. May touch: the network.
"""

from __future__ import annotations

import math
import socket
from typing import Any, Awaitable, Callable, List, Tuple, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from flowmaestro_transports.http11 import failures
from flowmaestro_transports.http11.dialing import literal
from flowmaestro_transports.http11.round_trip import AttemptDeadline, LastLook
from flowmaestro_transports.http11.wire import IOSteps, IOWait, Readiness

T = TypeVar("T")

NETWORK_ERRORS = (*failures.NETWORK_ERRORS, anyio.ClosedResourceError)
"""The errors that the peer or the network causes."""


async def look_up(host: str, port: int) -> List[Any]:
    """Resolve a host name. Return addresses as `getaddrinfo` does. Raises `OSError`."""
    found = literal(host, port)
    if not found:  # Only a name needs a resolver, and with it a thread.
        try:
            resolved = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except RuntimeError:  # No thread can be started when the interpreter exits.
            return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        found = [(*each[:4], _with_scope(*each[4])) for each in resolved]
    return found


def _with_scope(address: str, port: int) -> Tuple[Any, ...]:
    """Return the socket address of an IP `address`.

    anyio appends the scope to a link-local `address`, after a `%`. The socket address has the scope
    as a number of its own.
    """
    address, _, scope = address.partition("%")
    return (address, port, 0, int(scope)) if scope else (address, port)


async def carry_out(steps: IOSteps[T], deadline: AttemptDeadline, scope: anyio.CancelScope) -> T:
    """Carry out `steps`, wait as they say, and return their result.

    If the attempt has phases, its deadline may move: then `scope` gets it before each wait.
    """
    try:
        while True:
            readiness, socks, seconds = wait = next(steps)
            if deadline.phases is not None:
                scope.deadline = deadline.at
            if not socks:
                await checkpoint()
            elif len(socks) > 1 or seconds != math.inf or readiness is Readiness.EITHER:
                await _wait_for_any(wait)
            elif readiness is Readiness.READABLE:
                await anyio.wait_readable(socks[0])
            else:
                await anyio.wait_writable(socks[0])
    except StopIteration as end:
        result: T = end.value
        return result


async def carry_out_late(steps: IOSteps[T], deadline: AttemptDeadline) -> List[T]:
    """Resume `steps` after the deadline, with what has arrived already (`LastLook`).

    Return their result in a list. The list is empty if they need more, or if their deadline has
    moved: then they can be carried out again.
    """
    look = LastLook()
    try:
        while look.goes_on(deadline.clock()):
            wait = next(steps)
            if wait.readiness is not Readiness.READABLE or deadline.clock() < deadline.at:
                break
            await checkpoint()
    except StopIteration as end:
        return [end.value]
    return []


async def _wait_for_any(wait: IOWait) -> None:
    errors: List[Exception] = []
    async with anyio.create_task_group() as waits:
        waits.cancel_scope.deadline = anyio.current_time() + wait.seconds

        async def until(ready: Callable[[socket.socket], Awaitable[None]], sock: Any) -> None:
            try:
                await ready(sock)
            except Exception as error:  # From the group it would come within an `ExceptionGroup`.
                errors.append(error)
            waits.cancel_scope.cancel()

        for sock in wait.socks:
            if wait.readiness is not Readiness.WRITABLE:
                waits.start_soon(until, anyio.wait_readable, sock)
            if wait.readiness is not Readiness.READABLE:
                waits.start_soon(until, anyio.wait_writable, sock)
    if errors:
        raise errors[0]
