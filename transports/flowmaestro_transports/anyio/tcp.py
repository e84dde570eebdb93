"""How a TCP connection comes about: names, and the race between addresses.

For asyncio and trio.
"""

from __future__ import annotations

import os
import socket
from itertools import chain, zip_longest
from typing import Any, List, Optional, Tuple

import anyio

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside the one under way (RFC 8305, 8)."""

_Address = Tuple[socket.AddressFamily, Any]


async def connect_tcp(host: str, port: int) -> socket.socket:
    """A socket connected to `host`, that does not block.

    Raises `OSError` (a name that does not resolve is one), and `UnicodeError` for a name that
    cannot be one.
    """
    addresses = await _resolve(host, port)
    if len(addresses) == 1:
        return await _try_address(addresses[0])
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


async def _resolve(host: str, port: int) -> List[_Address]:
    try:  # an address needs no resolver, which would cost a thread
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        )
    except socket.gaierror:
        return _interleave(
            [
                (family, address)
                for family, _, _, _, address in await anyio.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM
                )
            ]
        )
    return [(family, address) for family, _, _, _, address in found]


def _interleave(addresses: List[_Address]) -> List[_Address]:
    """Each family in turn, in the resolver's order, beginning with its favourite (RFC 8305, 4)."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    pairs = zip_longest(first, others)
    return [address for address in chain.from_iterable(pairs) if address is not None]


class _Race:
    """Several addresses of one host: each gets a head start over the next; the first one wins."""

    def __init__(self) -> None:
        self.winner: Optional[socket.socket] = None
        self.errors: List[OSError] = []

    async def run(self, addresses: List[_Address]) -> None:
        async with anyio.create_task_group() as group:
            for address in addresses:
                lost = anyio.Event()
                group.start_soon(self._enter, address, lost, group.cancel_scope)
                with anyio.move_on_after(ATTEMPT_DELAY):
                    await lost.wait()

    async def _enter(self, address: _Address, lost: anyio.Event, others: anyio.CancelScope) -> None:
        try:
            sock = await _try_address(address)
        except OSError as error:
            self.errors.append(error)
            lost.set()
            return
        if self.winner is None:
            self.winner = sock
            others.cancel()
        else:
            sock.close()


async def _try_address(address: _Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(where)
        except BlockingIOError:
            await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code)) from None
    except BaseException:
        sock.close()
        raise
    return sock
