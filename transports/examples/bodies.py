"""Open responses for the examples: they adapt the bodies of most HTTP stacks to the contract.

`PatientBody` is for async stacks, `ImpatientBody` and `ImpatientTransport` for blocking ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import weakref
from abc import ABC, abstractmethod
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Coroutine,
    Generic,
    Optional,
    TypeVar,
)

import anyio

from flowmaestro_transports import (
    AsyncOpenResponse,
    Headers,
    Phase,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)

P = TypeVar("P")


class PatientBody:
    """An open body around an asynchronous iterator of bytes, on asyncio.

    A read that finds no bytes in time continues, and the next `read` waits for it. Most stacks
    close the connection if a read is cancelled. An exception of the iterator means that the body
    is truncated. `release` releases the connection.
    """

    def __init__(
        self,
        status: int,
        headers: Headers,
        pieces: AsyncIterator[bytes],
        release: Callable[[], Coroutine[Any, Any, object]],
    ) -> None:
        self.status, self.headers = status, headers
        self._pieces, self._release = pieces, release
        self._reading: Optional[asyncio.Future[bytes]] = None

    async def read(self, patience: float) -> Optional[bytes]:
        reading = self._reading = self._reading or asyncio.ensure_future(self._piece())
        await asyncio.wait({reading}, timeout=patience)
        if not reading.done():
            return None
        try:
            piece = reading.result()
        except (Exception, asyncio.CancelledError) as error:
            # `_reading` stays as it is, so that every further read fails, too.
            failure = TransportFailure(Phase.REPLY_BROKEN, f"the body broke off: {error}")
            # Only its name and text: the exception may lead to the request, and so to the key.
            failure.__cause__ = Exception(f"{type(error).__name__}: {error}")
        else:
            self._reading = None
            return piece
        raise failure  # Here, where `error` is not its context.

    async def close(self) -> None:
        # The shield lets a cancelled task close its body, too.
        with anyio.CancelScope(shield=True):
            reading = self._reading = self._reading or asyncio.get_running_loop().create_future()
            reading.cancel()  # This wakes the reader.
            await asyncio.wait({reading})
            await self._release()

    async def _piece(self) -> bytes:
        async for piece in self._pieces:
            if piece:
                return piece
        return b""


async def read_response(body: AsyncOpenResponse, end: float, now: Callable[[], float]) -> Response:
    """Read a body to its end and close it. Return the response.

    Raises `TransportFailure` if the body has not ended when the clock `now` shows `end`.
    """
    content = bytearray()
    try:
        while piece := await body.read(max(0.0, end - now())):
            content += piece
    finally:
        await body.close()
    if piece is None:
        raise TransportFailure(Phase.REPLY_BROKEN, "the reply did not end in time", timed_out=True)
    return Response(body.status, body.headers, bytes(content))


class ImpatientBody:
    """An open body of a blocking stack whose reads cannot continue after a timeout.

    `read` is called with the patience in seconds, `failure` with the exception that it raises.
    `release` closes the connection, or returns it to its pool.
    """

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
        if hasattr(connection, "suppress_ragged_eofs"):
            # A TLS connection that ends without `close_notify` raises an error then.
            connection.suppress_ragged_eofs = False

    def read(self, patience: float) -> bytes:
        try:
            piece = b"" if self._ended or self._closed else self._read(patience)
        except Exception as error:
            self.close()
            failure = self._failure(error)
            failure.__cause__ = failure.__cause__ or error
        else:
            if self._closed:
                raise TransportFailure(Phase.REPLY_BROKEN, "the body was closed before its end")
            self._ended = not piece
            return piece
        raise failure  # Here, where `error` is not its context.

    def read_whole(self, end: float) -> bytes:
        """Return the whole body. Raise `TransportFailure` if it has not ended at `end`.

        The stack bounds each receive alone, so a timer shuts the socket down at `end`.
        """
        late = TransportFailure(Phase.REPLY_BROKEN, "no end in time", timed_out=True)
        timer = threading.Timer(end - time.monotonic(), self.close)
        timer.daemon = True
        timer.start()
        content = bytearray()
        try:
            while piece := self.read(max(0.001, end - time.monotonic())):
                content += piece
        except TransportFailure:
            if time.monotonic() < end:
                raise
            raise late from None
        finally:
            timer.cancel()
            self.close()
        return bytes(content)

    def close(self) -> None:
        self._closed = not self._ended
        if self._closed and self._connection is not None:
            # The method of `socket.socket` wakes the reader of a TLS connection, too.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
        self._release()


class ImpatientTransport(ABC, Generic[P]):
    """A blocking transport without its HTTP stack: a subclass says how to begin a request.

    The caller makes two pools, for calls and for open bodies: a stream then takes no connection
    from the calls.
    """

    patient = False

    def __init__(self, calls: P, streams: P) -> None:
        self._calls, self._streams, self._closed = calls, streams, False
        self._bodies: weakref.WeakSet[ImpatientBody] = weakref.WeakSet()

    def send(self, request: Request, timeout: float) -> Response:
        end = self.now() + timeout
        body = self._begin(self._calls, request, timeout)
        return Response(body.status, body.headers, body.read_whole(end))

    def open(self, request: Request, timeout: float) -> ImpatientBody:
        return self._begin(self._streams, request, timeout)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        self._closed = True
        for body in list(self._bodies):
            body.close()
        self.close_pool(self._calls)
        self.close_pool(self._streams)

    def _begin(self, pool: P, request: Request, timeout: float) -> ImpatientBody:
        if self._closed:
            raise TransportClosedError
        body = self.begin(pool, request, timeout)
        self._bodies.add(body)
        if self._closed:  # Another thread closed the transport while the request began.
            body.close()
        return body

    @abstractmethod
    def begin(self, pool: P, request: Request, timeout: float) -> ImpatientBody: ...
    @abstractmethod
    def close_pool(self, pool: P) -> None: ...
