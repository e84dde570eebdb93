"""The addresses of a host, and how a connection to one of them begins. Nothing here waits.

May touch: sockets that it makes.
"""

from __future__ import annotations

import errno
import os
import socket
from itertools import chain, zip_longest
from typing import Any, List, NamedTuple, Sequence

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside the one under way (RFC 8305, 8)."""

_UNDER_WAY = (0, errno.EINPROGRESS, errno.EWOULDBLOCK)


class Address(NamedTuple):
    """Where a host can be reached: `where` is what `socket.connect` takes."""

    family: int
    where: Any


def in_turn(found: Sequence[Any]) -> List[Address]:
    """The addresses that `getaddrinfo` has found: each family in turn (RFC 8305, 4).

    The resolver's order within a family stays, and its favourite family begins.
    """
    addresses = [Address(entry[0], entry[4]) for entry in found]
    first = [each for each in addresses if each.family == addresses[0].family]
    others = [each for each in addresses if each.family != addresses[0].family]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]


def begin_to_connect(address: Address) -> socket.socket:
    """A socket that is connecting; once it is writable, ask `check_connected`.

    Raises `OSError`.
    """
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _raise(sock.connect_ex(address.where), _UNDER_WAY)
    except BaseException:
        sock.close()
        raise
    return sock


def check_connected(sock: socket.socket) -> None:
    """Raises `OSError` if the socket could not connect."""
    _raise(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), (0,))


def _raise(code: int, unless: Sequence[int]) -> None:
    if code not in unless:
        raise OSError(code, os.strerror(code))
