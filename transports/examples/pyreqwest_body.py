"""An open body of pyreqwest's sync client, which is not patient."""

from __future__ import annotations

from typing import Any

from pyreqwest_attempt import failure_of

from flowmaestro_transports import Headers, Phase, TransportFailure


class PyreqwestBody:
    """The body of the `reply` that came of the request `stream`."""

    def __init__(self, stream: Any, reply: Any) -> None:
        self.status, self.headers = reply.status, Headers(reply.headers.items())
        self._stream, self._reader = stream, reply.body_reader
        self._closed = self._ended = False

    def read(self, patience: float) -> bytes:
        if self._closed and not self._ended:
            raise TransportFailure(Phase.REPLY_BROKEN, "the body was closed before its end")
        try:
            piece = b"" if self._ended else bytes(self._reader.read_chunk() or b"")
        except Exception as error:
            self.close()
            raise failure_of(error, Phase.REPLY_BROKEN) from error
        self._ended = not piece
        return piece

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.__exit__(None, None, None)
