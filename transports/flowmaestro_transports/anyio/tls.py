"""TLS on a connection: the handshake, and TLS within TLS for proxies that are spoken to over it."""

from __future__ import annotations

import socket
import ssl
from typing import Optional, Union

from flowmaestro_transports.anyio.socket import Waiter, Wire, waiter_for

_RECORD = 16384
"""Bytes that a TLS record holds at most (RFC 8446, 5.1)."""


async def start_tls(wire: Wire, context: ssl.SSLContext, host: str) -> Wire:
    """TLS with `host` over `wire`, which is closed if that fails.

    Raises `OSError` (`ssl.SSLError` is one), and `ValueError` for a name that cannot be one.
    """
    try:
        tls = _wrap(wire, context, host)
    except BaseException:
        wire.close()
        raise
    try:
        while (blocked_on := _shake_hands(tls)) is not None:
            await blocked_on(tls)
    except BaseException:
        tls.close()
        raise
    return tls


def _wrap(wire: Wire, context: ssl.SSLContext, host: str) -> Union[ssl.SSLSocket, NestedTls]:
    if isinstance(wire, socket.socket) and not isinstance(wire, ssl.SSLSocket):
        # Ragged ends are errors: whoever cuts a body short must not make it pass for whole.
        return context.wrap_socket(
            wire,
            server_hostname=host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
    return NestedTls(wire, context, host)


def _shake_hands(tls: Union[ssl.SSLSocket, NestedTls]) -> Optional[Waiter]:
    try:
        tls.do_handshake()
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
        return waiter_for(want)
    return None


class NestedTls:
    """What an `ssl.SSLSocket` around another one would be, if sockets could be wrapped twice.

    It is a `Wire` that does not block: what cannot be done just now raises
    `ssl.SSLWantReadError` or `ssl.SSLWantWriteError`, and the same call does it later. The
    inner records pass through memory, the outer ones through `outer`.
    """

    def __init__(self, outer: Wire, context: ssl.SSLContext, host: str) -> None:
        self._outer = outer
        self._arrived = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._unsent = memoryview(b"")
        self._accepted = 0
        self._inner = context.wrap_bio(self._arrived, self._leaving, server_hostname=host)

    def fileno(self) -> int:
        """The file descriptor to wait for."""
        return self._outer.fileno()

    def do_handshake(self) -> None:
        """As `ssl.SSLSocket.do_handshake`."""
        while True:
            try:
                self._inner.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
            else:
                self._flush()
                return

    def recv(self, size: int, /) -> bytes:
        """As `ssl.SSLSocket.recv`; an end without TLS's own goodbye is an `ssl.SSLError`."""
        while True:
            try:
                return self._inner.read(size)
            except ssl.SSLWantReadError:
                self._fill()

    def send(self, data: memoryview, /) -> int:
        """As `ssl.SSLSocket.send`: to be called with the same data until it returns."""
        if not self._accepted:
            self._accepted = self._inner.write(data[:_RECORD])
        self._flush()
        count, self._accepted = self._accepted, 0
        return count

    def close(self) -> None:
        """Close the connection, without a goodbye."""
        self._outer.close()

    def _fill(self) -> None:
        data = self._outer.recv(_RECORD)
        if data:
            self._arrived.write(data)
        else:
            self._arrived.write_eof()

    def _flush(self) -> None:
        while self._unsent or self._leaving.pending:
            if not self._unsent:
                self._unsent = memoryview(self._leaving.read())
            self._unsent = self._unsent[self._outer.send(self._unsent) :]
