"""The open body of a reply that requests has brought, read with patience.

A timed-out read through http.client cannot be resumed, so `SocketBody` reads the socket behind
the head itself: first what http.client has buffered, then what comes. `BlockingBody` serves
adapters without such a socket, test doubles among them; its reads block.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import threading
import time
from typing import Any, Iterator, Optional, Union, cast

import requests
import urllib3

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_transports.driving.fork_guard import ForkGuard, of_the_parent
from flowmaestro_transports.http11.chunked import ChunkDecoder
from flowmaestro_transports.http11.content_coding import ContentDecoder
from flowmaestro_transports.requests.places import Places

LONGEST = 1e6
"""Seconds: the longest time that fits into a socket's timeout on every platform."""

_BLOCK = 64 * 1024
_NO_CONTENT = frozenset({204, 304})
_SPACE = " \t"
"""All that counts as space in a header field (RFC 9110, 5.6.3)."""
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")
"""Where a field goes on in the next line (RFC 9112, 5.2), which older versions of urllib3 leave."""
_CLOSED = "the stream was closed"
_NOTHING_YET = (socket.timeout, BlockingIOError, ssl.SSLWantReadError)


class SocketBody:
    """A body read from its socket. One thread reads; any thread may close.

    `limit` is the most bytes that the body may have, inflated. Raises `ValueError` for a head
    that does not say how its body ends.
    """

    def __init__(
        self, raw: Any, sock: socket.socket, method: str, limit: int, places: Places
    ) -> None:
        headers = Headers([(name, _FOLD.sub(" ", value)) for name, value in raw.headers.items()])
        self._framing = _framing(method, raw.status, headers)
        self._coding = ContentDecoder(headers, limit)
        self.status: int = raw.status
        self.headers = self._coding.headers
        self._raw = raw
        self._places = places
        self._beyond_head: Optional[io.BufferedReader] = raw._fp.fp
        self._sock: Optional[socket.socket] = sock
        self._reading = threading.RLock()
        self._owning = threading.RLock()  # a connection given back must not be shut down
        self._closed = False
        self._failure: Optional[str] = None
        self._process = ForkGuard()
        places.in_use.add(raw)
        if self._framing.finished:
            self._let_go(reuse=True)
        elif isinstance(self._framing, _UntilClose) and hasattr(sock, "suppress_ragged_eofs"):
            # Who ends TLS without a goodbye has cut the body off.
            cast("Any", sock).suppress_ragged_eofs = False

    def read(self, patience: float) -> Optional[bytes]:
        """As `OpenResponse.read`. `close` in another thread wakes it, and it raises."""
        if self._process.forked:
            raise of_the_parent()
        with self._reading:
            if self._failure is not None:
                raise TransportFailure(Phase.REPLY_BROKEN, self._failure)
            self._refuse_if_closed()
            deadline = time.monotonic() + patience
            while not self._framing.finished:
                data = self._receive(deadline)
                if data is None:
                    return None
                content = self._decode(data)
                if content:
                    return content
            return b""

    def close(self) -> None:
        """As `OpenResponse.close`."""
        self._closed = True
        if self._process.forked:  # its locks may be held for good
            self._raw.close()
            return
        with self._owning:
            if self._sock is not None:
                shut_down(self._sock)  # wakes a reader, which then leaves the lock
        with self._reading:
            self._let_go(reuse=False)

    def __del__(self) -> None:
        if getattr(self, "_sock", None) is not None:
            self.close()

    def _receive(self, deadline: float) -> Optional[bytes]:
        """Bytes as they come; `b""` at the end of the connection, None at the deadline."""
        sock = cast("socket.socket", self._sock)
        try:
            buffered, self._beyond_head = self._beyond_head, None
            data = buffered and _buffered_bytes(buffered, sock)
            if not data:
                sock.settimeout(min(max(deadline - time.monotonic(), 0), LONGEST))
                data = sock.recv(_BLOCK)
        except _NOTHING_YET:
            data = None
        except OSError as error:
            self._refuse_if_closed()
            raise self._broken(f"the connection was lost within the reply: {error}") from error
        self._refuse_if_closed()
        return data

    def _decode(self, data: bytes) -> bytes:
        framing = self._framing
        try:
            content = framing.feed(data) if data else framing.end_of_connection()
            content = self._coding.feed(content)
            if framing.finished:
                content += self._coding.finish()
        except ValueError as error:
            raise self._broken(str(error)) from error
        if framing.finished:
            self._let_go(reuse=not framing.trailing)
        return content

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise TransportFailure(Phase.REPLY_BROKEN, _CLOSED)

    def _broken(self, message: str) -> TransportFailure:
        self._failure = message
        self._let_go(reuse=False)
        return TransportFailure(Phase.REPLY_BROKEN, message)

    def _let_go(self, *, reuse: bool) -> None:
        with self._owning:
            if self._sock is None:
                return
            self._sock = None
        if reuse:
            self._places.in_use.discard(self._raw)
            self._raw._fp.close()  # of the reply alone: http.client then takes it as read
            self._raw.release_conn()
            self._places.settle()
        else:
            self._places.give_up(self._raw)


class BlockingBody:
    """A body that only requests itself can read. Patience is not kept: a read blocks."""

    def __init__(self, response: requests.Response, limit: int, places: Places) -> None:
        self.status = response.status_code
        self._coding = ContentDecoder(Headers(response.headers.items()), limit)
        self.headers = self._coding.headers
        self._response = response
        self._places = places
        self._pieces = _undecoded(response)
        self._closed = False

    def read(self, patience: float) -> bytes:
        """As `OpenResponse.read`, but that it waits for as long as it takes."""
        if self._closed:
            raise TransportFailure(Phase.REPLY_BROKEN, _CLOSED)
        try:
            for piece in self._pieces:
                content = self._coding.feed(piece)
                if content:
                    return content
            return self._coding.finish()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise TransportFailure(Phase.REPLY_BROKEN, f"the reply broke off: {error}") from error

    def close(self) -> None:
        """As `OpenResponse.close`."""
        self._closed = True
        if isinstance(self._response.raw, urllib3.BaseHTTPResponse):
            self._places.give_up(self._response.raw)
        else:
            self._response.close()


Body = Union[SocketBody, BlockingBody]


def body_of(response: requests.Response, method: str, limit: int, places: Places) -> Body:
    """The body of the reply to a request with `method`; `limit` as `SocketBody` has it.

    Raises `TransportFailure` (*reply broken*) where `SocketBody` refuses the head.
    """
    sock = _socket_behind(response.raw)
    if sock is None:
        return BlockingBody(response, limit, places)
    try:
        return SocketBody(response.raw, sock, method, limit, places)
    except ValueError as error:
        places.give_up(response.raw)
        raise TransportFailure(Phase.REPLY_BROKEN, str(error)) from error


class _Counted:
    """A body of so many bytes (RFC 9112, 6.3, rule 6; none at all by rule 1)."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.finished = not length
        self.trailing = b""

    def feed(self, data: bytes) -> bytes:
        content = data[: self._left]
        self.trailing = data[self._left :]
        self._left -= len(content)
        self.finished = not self._left
        return content

    def end_of_connection(self) -> bytes:
        raise ValueError(f"the reply ended {self._left} bytes too early")


class _Chunked(ChunkDecoder):
    """A chunked body (RFC 9112, 6.3, rule 4)."""

    def end_of_connection(self) -> bytes:
        raise ValueError("the reply ended before its last chunk")


class _UntilClose:
    """A body that ends with its connection (RFC 9112, 6.3, rule 8)."""

    finished = False
    trailing = b""

    def feed(self, data: bytes) -> bytes:
        return data

    def end_of_connection(self) -> bytes:
        self.finished = True
        return b""


_Framing = Union[_Counted, _Chunked, _UntilClose]


def _framing(method: str, status: int, headers: Headers) -> _Framing:
    """How the body ends, by RFC 9112, section 6.3; what that leaves open is refused."""
    if method == "HEAD" or status in _NO_CONTENT:
        return _Counted(0)
    transfer = headers.get("transfer-encoding")
    if transfer is not None:
        if transfer.strip(_SPACE).lower() != "chunked":
            raise ValueError(f"transfer coding {transfer!r} is not supported")
        if "content-length" in headers:  # an attempt to smuggle a reply in, maybe (6.1)
            raise ValueError("the reply has a length and a transfer coding")
        return _Chunked()
    length = headers.get("content-length")
    if length is None:
        return _UntilClose()
    values = {value.strip(_SPACE) for value in length.split(",")}  # repeats of one value are fine
    value = values.pop()
    if values or not (value.isascii() and value.isdigit()):
        raise ValueError(f"content length {length!r} is no number of bytes")
    return _Counted(int(value))


def _socket_behind(raw: Any) -> Optional[socket.socket]:
    """The socket from which http.client has read the head, if that is what `raw` stands on."""
    reply = getattr(raw, "_fp", None)
    if not isinstance(reply, http.client.HTTPResponse):
        return None
    buffer: Optional[io.BufferedReader] = reply.fp
    return getattr(getattr(buffer, "raw", None), "_sock", None)


def _undecoded(response: requests.Response) -> Iterator[bytes]:
    raw: Any = response.raw
    if hasattr(raw, "stream"):
        yield from raw.stream(_BLOCK, decode_content=False)
    elif raw is None:
        yield response.content
    else:
        yield from iter(lambda: raw.read(_BLOCK), b"")


def _buffered_bytes(buffer: io.BufferedReader, sock: socket.socket) -> bytes:
    """What came along with the head, without waiting for more."""
    sock.settimeout(0)
    try:
        return buffer.read1(_BLOCK)
    except _NOTHING_YET:
        return b""


def shut_down(sock: Any) -> None:
    """Wake whoever waits at a socket, or at the TLS over it: the connection has ended."""
    # Not SSLSocket.shutdown, which would drop the TLS state under the reader's hands, so that
    # it took ciphertext for content. A TLS layer of urllib3's keeps its socket in `socket`.
    plain = sock if isinstance(sock, socket.socket) else getattr(sock, "socket", None)
    if isinstance(plain, socket.socket):
        with contextlib.suppress(OSError):  # the peer may have gone already
            socket.socket.shutdown(plain, socket.SHUT_RDWR)
