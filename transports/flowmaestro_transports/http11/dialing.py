"""Connects to a host: a race between its addresses (RFC 8305, "Happy Eyeballs").

Nothing here waits. May touch: sockets that it makes.
"""

from __future__ import annotations

import errno
import math
import os
import socket
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Any, List, Sequence

from flowmaestro_transports.http11.wire import IOSteps, IOWait, Readiness

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside the previous one (RFC 8305, 8)."""

_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def literal(host: str, port: int) -> List[Any]:
    """Return the address that `host` is, in a list such as `getaddrinfo` returns.

    Return an empty list if `host` is a name, which needs a resolver, or an address with a scope.
    """
    if "%" in host:  # `inet_pton` of macOS ignores the scope.
        return []
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return []


def interleave_families(addresses: Sequence[Any]) -> List[Any]:
    """Return the addresses of `getaddrinfo` in an order that alternates families (RFC 8305, 4).

    The family of the first address comes first. Within a family, the order stays.
    """
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for each in chain.from_iterable(zip_longest(first, others)) if each is not None]


def connect_any(
    addresses: Sequence[Any], connecting: List[socket.socket]
) -> IOSteps[socket.socket]:
    """Connect to one of the addresses of `getaddrinfo`. Return the connected socket.

    Each address gets a head start over the next, and the first that connects wins (RFC 8305, 5).
    `connecting` holds each socket that is open, the returned one as well. Raises `OSError` if no
    address can be connected.
    """
    addresses = interleave_families(addresses)
    errors: List[OSError] = []
    while addresses or connecting:
        if addresses:
            try:
                connecting.append(_begin_to_connect(*addresses.pop(0)))
            except OSError as error:
                errors.append(error)
        if connecting:
            head_start = ATTEMPT_DELAY if addresses else math.inf
            yield IOWait(Readiness.WRITABLE, tuple(connecting), head_start)
        for sock in tuple(connecting):
            try:
                won = _is_connected(sock)
            except OSError as error:
                errors.append(error)
                sock.close()
                connecting.remove(sock)
                continue
            if won:
                for loser in connecting:
                    if loser is not sock:
                        loser.close()
                connecting[:] = [sock]
                return sock
    # Prefer any other error: "no route for this address family" says least about the cause.
    no_address = OSError("the host has no address")
    raise min(errors, key=lambda error: error.errno in _NO_ROUTE, default=no_address)


def _begin_to_connect(
    family: int, kind: int, protocol: int, _name: str, address: Any
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):  # It connects in the background.
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_connected(sock: socket.socket) -> bool:
    """Return whether the socket is connected; False while it is still connecting.

    Raises `OSError` if it could not connect.
    """
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    try:
        sock.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
        return False
    return True
