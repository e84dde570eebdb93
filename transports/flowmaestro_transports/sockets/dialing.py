"""How a TCP connection comes about: the lookup of the name, and the race between its addresses.

May touch: the network.
"""

from __future__ import annotations

import socket
import time
from typing import List, Optional

from flowmaestro_transports.http11.addresses import (
    ATTEMPT_DELAY,
    Address,
    begin_to_connect,
    check_connected,
    in_turn,
)
from flowmaestro_transports.http11.wire import Want
from flowmaestro_transports.sockets.steps import Step, TimeUp


def dial(step: Step, host: str, port: int, until: float) -> socket.socket:
    """A socket connected to `host`, that does not block; it is in `step.sockets`.

    Each address gets a head start over the next, and the first to answer wins (RFC 8305, 5). Raises
    `OSError` (a name that does not resolve is one), `UnicodeError` for a name that cannot be one,
    `StepCut`, and `TimeUp` at the time `until`. Nothing cuts short the lookup of the name: it is
    one call of the operating system.
    """
    addresses = in_turn(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    connecting = step.sockets
    errors: List[OSError] = []
    while addresses or connecting:
        if addresses:
            _begin(addresses.pop(0), connecting, errors)
        if connecting:
            head_start = time.monotonic() + ATTEMPT_DELAY if addresses else until
            winner = _first(step, min(head_start, until), errors)
            if winner is not None:
                for loser in [each for each in connecting if each is not winner]:
                    _drop(loser, connecting)
                return winner
        if time.monotonic() >= until:
            raise TimeUp
    raise errors[0]


def _begin(address: Address, connecting: List[socket.socket], errors: List[OSError]) -> None:
    try:
        connecting.append(begin_to_connect(address))
    except OSError as error:
        errors.append(error)


def _first(step: Step, until: float, errors: List[OSError]) -> Optional[socket.socket]:
    """The socket that has connected; None at the time `until`, or when another one has failed."""
    ready = step.wait(until, *step.sockets, want=Want.WRITABLE) or ()
    for sock in [each for each in step.sockets if each.fileno() in ready]:
        try:
            check_connected(sock)
        except OSError as error:
            errors.append(error)
            _drop(sock, step.sockets)
        else:
            return sock
    return None


def _drop(sock: socket.socket, connecting: List[socket.socket]) -> None:
    sock.close()
    connecting.remove(sock)
