"""pyreqwest, a client in Rust (Python 3.11+), for sync clients: a call has one time limit."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from pyreqwest.client import SyncClient
from pyreqwest_attempt import asked, failure_of
from pyreqwest_body import PyreqwestBody
from shortfalls import PYREQWEST

from flowmaestro_transports import Headers, Phase, Request, Response, TransportClosedError


class PyreqwestTransport:
    """Two clients of the caller's. The `read_timeout` of `streams` bounds the head and each read:
    `open` ignores its timeout, since one of the stack would bound the body, too.
    """

    patient = False
    known_failures = PYREQWEST

    def __init__(self, calls: SyncClient, streams: SyncClient) -> None:
        self._calls, self._streams, self._closed = calls, streams, False

    def send(self, request: Request, timeout: float) -> Response:
        call = self._asked(self._calls, request).timeout(timedelta(seconds=timeout)).build()
        phase = Phase.MAYBE_PROCESSED
        try:
            reply = call.send()
            phase = Phase.REPLY_BROKEN
            return Response(reply.status, Headers(reply.headers.items()), bytes(reply.bytes()))
        except Exception as error:
            raise failure_of(error, phase) from error

    def open(self, request: Request, timeout: float) -> PyreqwestBody:
        stream = self._asked(self._streams, request).streamed_read_buffer_limit(0).build_streamed()
        try:
            return PyreqwestBody(stream, stream.__enter__())
        except Exception as error:
            raise failure_of(error, Phase.MAYBE_PROCESSED) from error

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._closed = True
        self._calls.close()
        self._streams.close()

    def _asked(self, client: SyncClient, request: Request) -> Any:
        if self._closed:
            raise TransportClosedError
        return asked(client, request)
