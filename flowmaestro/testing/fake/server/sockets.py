"""Listening and connected sockets for asyncio and trio alike.

anyio is used only to wait. Accepting itself does not wait, so a cancelled task cannot lose a
connection that the operating system has already accepted.
"""

from __future__ import annotations

import socket
from typing import List

import anyio
import anyio.lowlevel

READ_BYTES = 64 * 1024
"""The most bytes of one `recv`, as in the transports of the SDK."""
BACKLOG = 1024
"""Connections that may wait to be accepted: a thousand clients may connect at once."""


class Listener:
    """A socket that listens on `host` and `port`; raises `OSError` when it cannot."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._sock.setblocking(False)

        self.address: str = self._sock.getsockname()[0]
        """The address that the socket listens on."""
        self.port: int = self._sock.getsockname()[1]
        """The port that the socket listens on."""

    async def accept(self) -> List[Peer]:
        """Wait until a client connects. Return the clients that could be accepted, perhaps none."""
        await anyio.wait_readable(self._sock)
        peers: List[Peer] = []
        try:
            while True:
                peers.append(Peer(self._sock.accept()[0]))
        except BlockingIOError:
            return peers
        except OSError:
            # The client has left already, or the process has no file descriptor left.
            if not peers:
                await anyio.sleep(0.01)
            return peers

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()


class Peer:
    """A connected client. Errors of the operating system are raised as `OSError`.

    If the client has left already, the constructor closes `sock` and raises.
    """

    def __init__(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            raise
        self._sock = sock
        self._came_at_once = False

    async def receive(self) -> bytes:
        """Return some received bytes; `b""` once the client has ended its side."""
        if self._came_at_once:
            # Other clients have their turn, however fast this one sends. It is not given between
            # `recv` and `return`: a cancellation would lose the bytes.
            await anyio.lowlevel.checkpoint()
        self._came_at_once = True
        while True:
            try:
                return self._sock.recv(READ_BYTES)
            except BlockingIOError:
                self._came_at_once = False
                await anyio.wait_readable(self._sock)

    async def send(self, data: bytes) -> None:
        """Send all of `data`."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)

    def close(self) -> None:
        """Close the connection. No task may be waiting on it."""
        self._sock.close()
