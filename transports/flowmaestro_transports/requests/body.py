"""A response of requests whose body is still open.

May touch: the network, by way of the connection that urllib3 has for the response.
"""

from __future__ import annotations

import contextlib
import io
import time
from functools import partial
from typing import Any, Callable, Tuple

import requests
import urllib3

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_transports.http11.content_coding import MAX_PIECE, ContentDecoder
from flowmaestro_transports.http11.failures import closed, too_slow
from flowmaestro_transports.http11.round_trip import LastLook
from flowmaestro_transports.primitives.fork_guard import ForkGuard, of_the_parent
from flowmaestro_transports.requests.failures import ERRORS, failure_within_body

LONGEST = 1e6
"""Seconds: the longest time that fits into a socket's timeout on every platform."""

_SHORTEST = 0.001
"""Seconds: a socket timeout of zero would mean "do not wait", not "the deadline has passed"."""


class RequestsBody:
    """A response whose body is still open. One thread reads; any thread may close.

    `limit` is the most bytes that the decoded body may have.

    The patience of a read limits each receive from the socket. If the body ends when the
    connection is closed, urllib3 does not give access to the socket, so each receive keeps the time
    limit of the head. A receive that has timed out cannot be repeated.
    """

    def __init__(self, response: requests.Response, limit: int) -> None:
        raw: Any = response.raw
        self._raw: Any = raw
        self._process = ForkGuard()
        self._closed = self._ended = False
        self.status: int = response.status_code
        self._receive: Any
        self._receive, is_decoded = _reader(response)
        self._coding = ContentDecoder(_fields_of(response, is_decoded), limit)
        self.headers: Headers = self._coding.headers
        if 100 <= self.status < 200:
            self.close()
            reason = f"an informational reply ({self.status}) came as the final one"
            raise TransportFailure(Phase.REPLY_BROKEN, reason)

    def read(self, patience: float) -> bytes:
        """Return some bytes of the body as soon as there are any; `b""` at its end.

        Raises `TransportFailure` if the library finds the body malformed or truncated, if the body
        was closed before its end, or if no content comes in time. It never returns `None`, because
        the body cannot be read again after a timeout. The class says what `patience` limits.
        """
        deadline = time.monotonic() + patience
        while not self._ended:
            content = self._piece(patience)
            if content:
                return content
            # The body has ended, or bytes came that decode to nothing.
            if not self._ended and time.monotonic() > deadline:
                raise self._timeout()
        return b""

    def read_whole(self, deadline: float, silence: float, enough: int) -> bytes:
        """Return the rest of the body once it has ended, or has more than `enough` bytes.

        Raises `TransportFailure` as `read` does, also if the body has not ended at `deadline`, or
        if no byte comes for `silence` seconds.
        """
        content = io.BytesIO()  # Unlike that of bytes, its repr shows nothing of the response.
        look = LastLook()
        while not self._ended and content.tell() <= enough:
            now = time.monotonic()
            left = deadline - now
            if left <= 0 and not look.goes_on(now):
                raise self._timeout()
            content.write(self._piece(min(left, silence)))
        return content.getvalue()

    def close(self) -> None:
        """Release the connection now, at the end of the body or before.

        A `read` in another thread wakes and raises `TransportFailure`.
        """
        if self._closed or self._ended:
            return
        self._closed = True
        # `connection` is None once the connection is back in its pool, where another thread may use
        # it: the last byte was read, but its end was not.
        if not self._process.forked and getattr(self._raw, "connection", None) is not None:
            # Wakes a reader. It fails if the connection is not open any more.
            with contextlib.suppress(Exception):
                self._raw.shutdown()
        # It fails if a reader, which was woken just now, releases the connection meanwhile.
        with contextlib.suppress(Exception):
            self._raw.close()
        # A caller may keep a failure. Its frames refer to this body, which must hold no connection.
        self._raw = self._receive = None

    def _piece(self, patience: float) -> bytes:
        """Receive once, unless the decoder has more. Return the decoded content, maybe `b""`.

        Sets `_ended` at the end of the body. Raises `TransportFailure`, also after `patience`
        seconds without a byte.
        """
        if self._process.forked:
            raise of_the_parent()
        if self._closed:
            raise closed(Phase.REPLY_BROKEN)
        try:
            return self._received(patience)
        except Exception as error:
            if not self._closed and not isinstance(error, ERRORS):
                raise
            failure = failure_within_body(error)
        if self._closed:  # Another thread closed it, which broke the receive.
            failure = closed(Phase.REPLY_BROKEN)
        self.close()
        raise failure

    def _received(self, patience: float) -> bytes:
        """Do the work of `_piece`. Raises what requests, urllib3 and the decoder raise.

        The bytes in `data` may echo a secret. The frame of this function is in no traceback that
        users get, because `_piece` raises another exception outside of `except`.
        """
        # `connection` is None once the connection is back in its pool, as in `close`.
        sock = getattr(getattr(self._raw, "connection", None), "sock", None)
        if sock is not None:
            sock.settimeout(min(max(patience, _SHORTEST), LONGEST))
        pending = self._coding.pending
        data = b"" if pending else self._receive()
        if self._closed:  # Then `data` may look like the end of the body.
            raise closed(Phase.REPLY_BROKEN)
        content = self._coding.feed(data) if data or pending else self._coding.finish()
        self._ended = not data and not pending
        return content

    def _timeout(self) -> TransportFailure:
        self.close()
        return too_slow(Phase.REPLY_BROKEN)


def _fields_of(response: requests.Response, is_decoded: bool) -> Headers:
    """Return the header fields, without `Content-Encoding` if the body `is_decoded` already.

    Python 3.9 leaves the line end of a folded field in its value.
    """
    fields = (getattr(response.raw, "headers", None) or response.headers).items()
    return Headers(
        (name, value.replace("\r\n", "").strip(" \t"))
        for name, value in fields
        if not is_decoded or name.lower() != "content-encoding"
    )


def _reader(response: requests.Response) -> Tuple[Callable[[], bytes], bool]:
    """Return a function that returns some bytes of the body, and whether these are decoded already.

    The function returns `b""` at the end. Raises `TransportFailure` (*reply broken*) if a hook has
    read from the body without keeping it.
    """
    raw = response.raw
    if not isinstance(raw, urllib3.BaseHTTPResponse):  # An adapter without a network.
        return partial(io.BytesIO(response.content).read, MAX_PIECE), False
    if not raw.closed and not raw.tell():
        return partial(raw.read1, MAX_PIECE, decode_content=False), False
    with contextlib.suppress(RuntimeError):  # Raised if a hook has read all by `iter_content`.
        if raw.closed:
            return partial(io.BytesIO(response.content).read, MAX_PIECE), True
    response.close()
    reason = "a hook has read the body without keeping it; it must use response.content"
    raise TransportFailure(Phase.REPLY_BROKEN, reason)
