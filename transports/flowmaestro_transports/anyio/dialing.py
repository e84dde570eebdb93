"""How a TCP connection comes about: the lookup of the name, and the race between its addresses.

May touch: the network. For asyncio and trio.
"""

from __future__ import annotations

import socket
from typing import Any, List, Optional

import anyio

from flowmaestro_transports.http11.addresses import (
    ATTEMPT_DELAY,
    Address,
    begin_to_connect,
    check_connected,
    in_turn,
)


async def dial(host: str, port: int) -> socket.socket:
    """A socket connected to `host`, that does not block.

    Each address gets a head start over the next, and the first to answer wins (RFC 8305, 5). Raises
    `OSError` (a name that does not resolve is one), and `UnicodeError` for a name that cannot be
    one.
    """
    addresses = in_turn(await _resolve(host, port))
    if len(addresses) == 1:
        return await _connect(addresses[0])
    race = _Race()
    try:
        await race.run(addresses)
    except BaseException:
        if race.winner is not None:
            race.winner.close()
        raise
    if race.winner is None:
        raise race.errors[0]
    return race.winner


async def _resolve(host: str, port: int) -> List[Any]:
    try:  # an address needs no resolver, which would cost a thread
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except socket.gaierror:
        return await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class _Race:
    """Several addresses of one host."""

    def __init__(self) -> None:
        self.winner: Optional[socket.socket] = None
        self.errors: List[OSError] = []

    async def run(self, addresses: List[Address]) -> None:
        async with anyio.create_task_group() as group:
            for address in addresses:
                lost = anyio.Event()
                group.start_soon(self._enter, address, lost, group.cancel_scope)
                with anyio.move_on_after(ATTEMPT_DELAY):
                    await lost.wait()

    async def _enter(self, address: Address, lost: anyio.Event, others: anyio.CancelScope) -> None:
        try:
            sock = await _connect(address)
        except OSError as error:
            self.errors.append(error)
            lost.set()
            return
        if self.winner is None:
            self.winner = sock
            others.cancel()
        else:
            sock.close()


async def _connect(address: Address) -> socket.socket:
    sock = begin_to_connect(address)
    try:
        await anyio.wait_writable(sock)
        check_connected(sock)
    except BaseException:
        sock.close()
        raise
    return sock
