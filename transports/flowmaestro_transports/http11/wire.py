"""Connected sockets that never wait, and what their users wait for. TLS is in `tls_wire`.

`receive` gives None until the socket is readable, `send` gives 0 until it is writable. A thread or
a task does the waiting, and may stop waiting at any time: nothing is lost. May touch: the sockets
that it is given.
"""

from __future__ import annotations

import enum
import math
import socket
from typing import Generator, NamedTuple, Optional, Sequence, TypeVar

READ_SIZE = 64 * 1024

T = TypeVar("T")


class Readiness(enum.Enum):
    """The state of a socket to wait for."""

    READABLE = "readable"
    WRITABLE = "writable"
    EITHER = "readable or writable"


class IOWait(NamedTuple):
    """What to wait for: one of `socks` to be as wanted, or so many `seconds` to pass."""

    want: Readiness
    socks: Sequence[socket.socket]
    seconds: float = math.inf


TURN = IOWait(Readiness.READABLE, (), 0.0)
"""Waits for nothing: other tasks of the event loop get a turn, and the deadline is checked."""

IOSteps = Generator[IOWait, None, T]
"""Work on sockets: each item says what to wait for before the next step is asked for.

Going on too early does no harm.
"""


class Wire:
    """A connected TCP socket that does not block.

    What the operating system reports is raised as it is: `OSError`.

    Attributes:
        sock: what to wait on.
        readable: what to wait for if nothing has arrived.
        writable: what to wait for if nothing can be sent.
        end: known once the peer sends no more, though the socket may not tell: what went wrong,
            `""` for nothing.

    """

    __slots__ = ("readable", "sock", "writable")

    end: Optional[str] = None  # the socket tells

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.readable = IOWait(Readiness.READABLE, (sock,))
        self.writable = IOWait(Readiness.WRITABLE, (sock,))

    def receive(self) -> Optional[bytes]:
        """What has arrived, about 64 KiB at most; `b""` once the peer has ended."""
        try:
            return self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return None

    def send(self, data: memoryview) -> int:
        """Send a first part of `data`; how many bytes that was.

        After 0, call it with the same data again.
        """
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def is_silent(self) -> bool:
        """Return whether the peer has neither closed an idle connection nor sent a byte on it.

        If not, close it. A byte that arrives before it is asked for is the beginning of a response
        to nothing, which would be taken for the response to the next request.
        """
        try:
            return self.receive() is None
        except OSError:
            return False

    def close(self) -> None:
        """Close at once. Closing twice is harmless."""
        self.sock.close()
