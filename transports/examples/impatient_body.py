"""An open body for blocking stacks whose reads cannot be taken up again: it is not patient."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any, Callable

from flowmaestro_transports import Phase, ResponseHead, TransportFailure


class ImpatientBody:
    """`read` gets the patience, `failure` the exception; `release` closes, or returns it."""

    def __init__(
        self,
        head: ResponseHead,
        read: Callable[[float], bytes],
        failure: Callable[[Exception], TransportFailure],
        connection: Any,
        release: Callable[[], object],
    ) -> None:
        self.status, self.headers = head.status, head.headers
        self._read, self._failure, self._ended = read, failure, False
        self._connection, self._release, self._closed = connection, release, False
        if hasattr(connection, "suppress_ragged_eofs"):  # TLS, which has to say goodbye
            connection.suppress_ragged_eofs = False

    def read(self, patience: float) -> bytes:
        try:
            piece = b"" if self._ended or self._closed else self._read(patience)
        except Exception as error:
            self.close()
            raise self._failure(error) from error
        if self._closed:
            raise TransportFailure(Phase.REPLY_BROKEN, "the body was closed before its end")
        self._ended = not piece
        return piece

    def read_whole(self, end: float) -> bytes:
        """All of it, if that has come by `end`: which is looked at between pieces alone."""
        content = bytearray()
        while piece := self.read(max(0.001, end - time.monotonic())):
            content += piece
            if time.monotonic() > end:
                self.close()
                raise TransportFailure(Phase.REPLY_BROKEN, "no end in time", timed_out=True)
        self.close()
        return bytes(content)

    def close(self) -> None:
        self._closed = not self._ended
        if self._closed and self._connection is not None:
            with contextlib.suppress(OSError):  # wakes the reader, over TLS or not
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
        self._release()
