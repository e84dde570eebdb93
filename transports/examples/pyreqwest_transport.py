"""pyreqwest, a client in Rust (Python 3.11+), blocking and on asyncio."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any, AsyncIterator, List, Set

import anyio.lowlevel
from bodies import PatientBody, read_response
from pyreqwest.client import Client, SyncClient
from pyreqwest.exceptions import DecodeError, PoolTimeoutError, ReadError, RequestError

from flowmaestro_transports import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)

_NOT_CONNECTED = ("tcp connect error", "dns error")
_AS_IF_SENT = "It fails as if the request had been sent, so a POST is not retried."
_TIME_LIMIT = "A timeout does not tell whether the request was sent, so a POST is not retried."
_IDLE = "Idle connections are closed by the pool's own time limit."
_KNOWN_FAILURES = {
    "a-stranger-is-refused": _AS_IF_SENT,
    "a-failed-handshake": _AS_IF_SENT,
    "connect-timeout": _TIME_LIMIT,
    "close-frees-every-connection": _IDLE,
}


class PyreqwestTransport:
    """pyreqwest for sync clients, made of two clients: calls and streams.

    A call has one time limit. The `read_timeout` of `streams` bounds the head and each read:
    `open` ignores its timeout, since one of the stack would bound the body, too.
    """

    patient = False
    known_failures = _KNOWN_FAILURES

    def __init__(self, calls: SyncClient, streams: SyncClient) -> None:
        self._calls, self._streams, self._closed = calls, streams, False

    def send(self, request: Request, timeout: float) -> Response:
        call = self._builder(self._calls, request).timeout(timedelta(seconds=timeout)).build()
        phase = Phase.MAYBE_PROCESSED
        try:
            reply = call.send()
            phase = Phase.REPLY_BROKEN
            return Response(reply.status, Headers(reply.headers.items()), bytes(reply.bytes()))
        except Exception as error:
            raise _failure(error, phase) from error

    def open(self, request: Request, timeout: float) -> _Body:
        builder = self._builder(self._streams, request)
        stream = builder.streamed_read_buffer_limit(0).build_streamed()
        try:
            return _Body(stream, stream.__enter__())
        except Exception as error:
            raise _failure(error, Phase.MAYBE_PROCESSED) from error

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._closed = True
        self._calls.close()
        self._streams.close()

    def _builder(self, client: SyncClient, request: Request) -> Any:
        if self._closed:
            raise TransportClosedError
        return _builder(client, request)


class _Body:
    """The open body of a `reply` to the request `stream`."""

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
            raise _failure(error, Phase.REPLY_BROKEN) from error
        self._ended = not piece
        return piece

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._stream.__exit__(None, None, None)


class AsyncPyreqwestTransport:
    """pyreqwest for async clients, on asyncio, made of two clients: calls and streams."""

    known_failures = {
        **_KNOWN_FAILURES,
        "cancelled-in-any-phase": "What is cancelled before its reply keeps its connection until "
        "the client's own limits.",
        "bounded-connections": _TIME_LIMIT,
    }

    def __init__(self, calls: Client, streams: Client) -> None:
        self._calls, self._streams, self._closed = calls, streams, False
        self._bodies: Set[PatientBody] = set()

    async def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        return await read_response(await self._begin(self._calls, request, timeout), end, self.now)

    async def open(self, request: Request, timeout: float) -> PatientBody:
        return await self._begin(self._streams, request, timeout)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    async def close(self) -> None:
        self._closed = True
        left: List[Any] = [*self._bodies, self._calls, self._streams]
        for each in left:
            await each.close()

    async def _begin(self, client: Client, request: Request, timeout: float) -> PatientBody:
        if self._closed:
            raise TransportClosedError
        stream = _builder(client, request).streamed_read_buffer_limit(0).build_streamed()
        reply = await _enter(stream, timeout)

        async def release() -> None:
            if body in self._bodies:
                self._bodies.remove(body)
                await stream.__aexit__(None, None, None)

        body = PatientBody(reply.status, Headers(reply.headers.items()), _pieces(reply), release)
        self._bodies.add(body)
        return body


def _builder(client: Any, request: Request) -> Any:
    """Return the builder of a request. Without compression the stack adds nothing to undo."""
    fields = {**request.headers, "accept-encoding": "identity"}
    builder = client.request(request.method, request.url).headers(fields)
    return builder.body_bytes(request.body) if request.body else builder


async def _enter(stream: Any, timeout: float) -> Any:
    """Send a request whose body is read in pieces. Return the response once its head is there."""
    try:
        return await asyncio.wait_for(stream.__aenter__(), timeout)
    except asyncio.CancelledError:
        # The exception is pyreqwest's own; the checkpoint raises that of anyio.
        await anyio.lowlevel.checkpoint_if_cancelled()
        raise
    except Exception as error:
        raise _failure(error, Phase.MAYBE_PROCESSED) from error


async def _pieces(reply: Any) -> AsyncIterator[bytes]:
    while piece := await reply.body_reader.read_chunk():
        yield bytes(piece)


def _failure(error: Exception, phase: Phase) -> TransportFailure:
    """Return the failure; `phase` is how far the request came if the exception does not tell.

    A `ConnectError` or a `ConnectTimeoutError` may come after the request went out, too: only
    its causes tell.
    """
    details: Any = error.details if isinstance(error, RequestError) else None
    causes = [cause["message"] for cause in (details or {}).get("causes") or ()]
    if isinstance(error, PoolTimeoutError) or any(it.startswith(_NOT_CONNECTED) for it in causes):
        phase = Phase.NOT_SENT
    elif isinstance(error, (DecodeError, ReadError)) or "response body" in str(error):
        phase = Phase.REPLY_BROKEN
    text = str(error.args[0]) if error.args else type(error).__name__
    return TransportFailure(phase, text, timed_out=isinstance(error, TimeoutError))
