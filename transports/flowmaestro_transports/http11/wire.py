"""Connected sockets that never wait, with or without TLS.

`receive` gives None until the socket is readable, `send` gives 0 until it is writable. A thread or
a task does the waiting, and may stop waiting at any time: nothing is lost. May touch: the sockets
that it is given.
"""

from __future__ import annotations

import enum
import socket
import ssl
from typing import Generator, List, Optional, Protocol

READ_SIZE = 64 * 1024
_RECORD = 16 * 1024
"""Bytes that a TLS record holds at most (RFC 8446, 5.1)."""


class Want(enum.Enum):
    """What has to become of a socket before the next step."""

    READABLE = "readable"
    WRITABLE = "writable"


Steps = Generator[Want, None, None]
"""Work on one socket: each item says what to wait for before the next step is asked for."""


class Wire(Protocol):
    """What moves the bytes. What the operating system reports is raised as it is: `OSError`."""

    @property
    def sock(self) -> socket.socket:
        """What to wait on."""
        ...

    @property
    def end(self) -> Optional[str]:
        """Known once the peer sends no more, though the socket may not tell: what went wrong,
        `""` for nothing.
        """
        ...

    def receive(self) -> Optional[bytes]:
        """What has arrived, about 64 KiB at most; `b""` once the peer has ended."""
        ...

    def send(self, data: memoryview) -> int:
        """Send a first part of `data`; how many bytes that was.

        After 0, call it with the same data again.
        """
        ...

    def close(self) -> None:
        """Close at once. Closing twice is harmless."""
        ...


class TcpWire:
    """A connected TCP socket that does not block."""

    __slots__ = ("sock",)

    end: Optional[str] = None  # the socket tells

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def receive(self) -> Optional[bytes]:
        """As `Wire.receive`."""
        try:
            return self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return None

    def send(self, data: memoryview) -> int:
        """As `Wire.send`."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """As `Wire.close`."""
        self.sock.close()


class TlsWire:
    """TLS with `host` over another wire, which may be TLS itself. `handshake` comes first.

    Raises `ValueError` for a name that cannot be one of a host.
    """

    __slots__ = ("_accepted", "_arrived", "_end", "_leaving", "_outer", "_tls", "_unsent", "sock")

    def __init__(self, outer: Wire, context: ssl.SSLContext, host: str) -> None:
        self.sock = outer.sock
        self._outer = outer
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        self._accepted = 0
        self._end: Optional[OSError] = None
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=host)

    def handshake(self) -> Steps:
        """Shake hands. Raises `OSError`; `ssl.SSLError` is one."""
        while True:
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError:
                self._flush()  # the peer is told why
                raise
            while not self._flush():
                yield Want.WRITABLE
            if done:
                return
            while not self._fill():
                yield Want.READABLE

    @property
    def end(self) -> Optional[str]:
        """As `Wire.end`: TLS may end while its connection stays."""
        return None if self._end is None else str(self._end)

    def receive(self) -> Optional[bytes]:
        """As `Wire.receive`. An end without TLS's own goodbye is an `ssl.SSLError`."""
        if self._end is None and not self._fill():
            return None
        records: List[bytes] = []
        while self._end is None:
            try:
                record = self._tls.read(READ_SIZE)
            except ssl.SSLWantReadError:
                self._flush()
                return b"".join(records) or None
            except OSError as error:
                self._end = error
            else:
                if not record:
                    self._end = _Goodbye()
                records.append(record)
        content = b"".join(records)
        if content or isinstance(self._end, _Goodbye):
            return content
        raise self._end

    def send(self, data: memoryview) -> int:
        """As `Wire.send`."""
        if not self._accepted:
            self._accepted = self._tls.write(data[:_RECORD])
        if not self._flush():
            return 0
        count, self._accepted = self._accepted, 0
        return count

    def close(self) -> None:
        """As `Wire.close`, without a goodbye."""
        self._outer.close()

    def _fill(self) -> bool:
        """Take in what has arrived; whether anything has."""
        data = self._outer.receive()
        if data:
            self._arrived.write(data)
        elif data is not None:
            self._arrived.write_eof()
        return data is not None

    def _flush(self) -> bool:
        """Pass on what TLS has written; whether all of it went out."""
        while self._unsent or self._leaving.pending:
            if not self._unsent:
                self._unsent = memoryview(self._leaving.read())
            count = self._outer.send(self._unsent)
            if not count:
                return False
            self._unsent = self._unsent[count:]
        return True


class _Goodbye(OSError):
    """The peer has ended TLS as it should."""
