"""TCP and TLS sockets for asyncio and trio alike: try without waiting, then wait, then try again.

anyio does the waiting; the bytes move straight between the operating system and us. So what has
arrived can be taken without waiting, a wait that is cancelled has consumed nothing, and a socket
is closed in one step: from a cancelled task, or when its event loop is long gone.
"""

from __future__ import annotations

import ssl
from typing import Awaitable, Callable, List, Optional, Protocol

import anyio

READ_SIZE = 65536


class Wire(Protocol):
    """What moves the bytes: a connected socket that does not block, or what stands in for one."""

    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: memoryview, /) -> int: ...
    def close(self) -> None: ...


Waiter = Callable[[Wire], Awaitable[None]]
"""Waits until a wire can be read, or until it can be written."""


def waiter_for(want: ssl.SSLError) -> Waiter:
    """What TLS waits for: `want` is an `SSLWantReadError` or an `SSLWantWriteError`."""
    return anyio.wait_readable if isinstance(want, ssl.SSLWantReadError) else anyio.wait_writable


class Socket:
    """A connected TCP socket. Only `ready` and `readable` wait.

    What the operating system reports is raised as it is: `OSError`.
    """

    __slots__ = ("_blocked_on", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._blocked_on: Waiter = anyio.wait_readable

    def receive_nowait(self) -> Optional[bytes]:
        """What has arrived, up to 64 KiB; `b""` once the peer has ended, None for nothing yet."""
        try:
            return self.wire.recv(READ_SIZE)
        except BlockingIOError:
            self._blocked_on = anyio.wait_readable
            return None

    def send_nowait(self, data: memoryview) -> int:
        """Send a first part of `data`; how many bytes that was, 0 when there is no room."""
        try:
            return self.wire.send(data)
        except BlockingIOError:
            self._blocked_on = anyio.wait_writable
            return 0

    def ready(self) -> Awaitable[None]:
        """Wait until what could not be done just now is worth another try."""
        return self._blocked_on(self.wire)

    def readable(self) -> Awaitable[None]:
        """Wait until the operating system has something to read for us."""
        return anyio.wait_readable(self.wire)

    def dropped(self) -> bool:
        """Of an idle socket: whether the peer has closed it, or spoken out of turn."""
        try:
            return self.receive_nowait() is not None
        except OSError:
            return True

    def close(self) -> None:
        """Close at once. Closing twice is harmless; no task may be waiting on the socket."""
        self.wire.close()


class TlsSocket(Socket):
    """The same over TLS. Either direction may have to wait for the other (`SSL_ERROR_WANT_*`)."""

    __slots__ = ()

    def receive_nowait(self) -> Optional[bytes]:
        """As `Socket.receive_nowait`, records that have arrived joined: one is at most 16 KiB."""
        records: List[bytes] = []
        size = 0
        while size < READ_SIZE:
            try:
                record = self.wire.recv(READ_SIZE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                self._blocked_on = waiter_for(want)
                break
            except OSError:
                if records:
                    break  # it will be raised again once these have been taken
                raise
            if not record:
                return b"".join(records)
            records.append(record)
            size += len(record)
        return b"".join(records) if records else None

    def send_nowait(self, data: memoryview) -> int:
        """As `Socket.send_nowait`."""
        try:
            return self.wire.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
            self._blocked_on = waiter_for(want)
            return 0
