"""Connected sockets that never wait, and what their users wait for. TLS is in `tls_wire`.

`receive` returns None until the socket is readable, `send` returns 0 until it is writable. A thread
or a task does the waiting, and may stop waiting at any time without losing anything. May touch: the
sockets that it is given.
"""

from __future__ import annotations

import enum
import math
import socket
from typing import Generator, NamedTuple, Optional, Sequence, TypeVar

READ_SIZE = 64 * 1024
"""The most bytes of one `recv`. It allocates so many before it knows how many have arrived, so
more of them would cost each small response."""

T = TypeVar("T")


class Readiness(enum.Enum):
    """The state of a socket that ends a wait: readable, writable or both."""

    READABLE = "readable"
    WRITABLE = "writable"
    EITHER = "readable or writable"


class IOWait(NamedTuple):
    """A wait until one of `socks` has the `readiness`, but for at most `seconds`."""

    readiness: Readiness
    socks: Sequence[socket.socket]
    seconds: float = math.inf


TURN = IOWait(Readiness.READABLE, (), 0.0)
"""Waits for nothing: other tasks of the event loop get a turn, and the deadline is checked."""

IOSteps = Generator[IOWait, None, T]
"""Work on sockets. Each item says what to wait for before the generator is resumed.

To resume it too early does no harm.
"""


class WireEnd(NamedTuple):
    """The end of the bytes that a peer sends.

    `failure` is why the connection did not end cleanly, or `None` if it did.
    """

    failure: Optional[OSError]


CLEAN_END = WireEnd(None)


class Wire:
    """A connected TCP socket that does not block.

    `receive` and `send` raise the `OSError` of the operating system.

    Attributes:
        sock: the socket to wait for.
        readable: what to wait for if nothing has arrived.
        writable: what to wait for if nothing can be sent.
        end: how TLS ended; else None. Only a `TlsWire` sets it, because its socket does not show
            the end of TLS.

    """

    __slots__ = ("readable", "sock", "writable")

    end: Optional[WireEnd] = None  # Never set here: `receive` returns `b""` instead.

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket = sock
        self.readable: IOWait = IOWait(Readiness.READABLE, (sock,))
        self.writable: IOWait = IOWait(Readiness.WRITABLE, (sock,))

    def receive(self) -> Optional[bytes]:
        """Return what has arrived, about 64 KiB at most; `b""` once the peer has closed.

        Return None if nothing has arrived.
        """
        try:
            return self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return None

    def send(self, data: memoryview) -> int:
        """Send the beginning of `data`. Return how many bytes were sent.

        After 0, call it again with the same data.
        """
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def is_silent(self) -> bool:
        """Return whether an idle connection may be reused.

        Return False if the peer has closed the connection, or has sent bytes on it. Bytes that
        arrive before the next request are an unsolicited response. They would be taken for the
        response to that request, so the caller must close the connection.
        """
        try:
            return self.receive() is None
        except OSError:
            return False

    def close(self) -> None:
        """Close at once. Closing twice is harmless."""
        self.sock.close()
