"""The body of a reply that requests has brought."""

from __future__ import annotations

import contextlib
import re
import time
from functools import partial
from typing import Any, Callable

import requests
import urllib3

from flowmaestro_core.http.messages import Headers, Phase, ResponseHead, TransportFailure
from flowmaestro_transports.driving.fork_guard import ForkGuard, of_the_parent
from flowmaestro_transports.http11.content_coding import ContentDecoder
from flowmaestro_transports.http11.framing import FramingError, framing_of
from flowmaestro_transports.requests.failure import ERRORS, failure_within_body

LONGEST = 1e6
"""Seconds: the longest time that fits into a socket's timeout on every platform."""

_SHORTEST = 0.001
"""Seconds: a socket timeout of zero would mean "do not wait", not "the time is up"."""

_BLOCK = 64 * 1024
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")
"""Where a field goes on in the next line (RFC 9112, 5.2), which urllib3 leaves as it is."""


class Body:
    """A reply whose body is still open. One thread reads; any thread may close.

    `limit` is the most bytes that the body may have, inflated. `let_go` is called once, with
    whether the body was read to its end.

    The patience of a read bounds each receive of the socket, as far as urllib3 shows it (not in a
    reply that ends with its connection); elsewhere the time limit of the head goes on to count.
    A receive that has timed out cannot be repeated.
    """

    def __init__(
        self, response: requests.Response, method: str, limit: int, let_go: Callable[[bool], None]
    ) -> None:
        raw: Any = response.raw
        self._raw = raw
        self._let_go = let_go
        self._process = ForkGuard()
        self._closed = self._ended = self._is_gone = False
        self.status = response.status_code
        fields = getattr(raw, "headers", None) or response.headers
        given = Headers([(name, _FOLD.sub(" ", value)) for name, value in fields.items()])
        self._coding = ContentDecoder(given, limit)
        self.headers = self._coding.headers
        self._receive = _reader(response)
        connection = getattr(raw, "connection", None)
        self._set_timeout = getattr(getattr(connection, "sock", None), "settimeout", None)
        refusal = _refusal(method, self.status, given)
        if refusal:
            self.close()
            raise TransportFailure(Phase.REPLY_BROKEN, refusal)

    def read(self, patience: float) -> bytes:
        """As `OpenResponse.read`, but a quiet body is a failure: it cannot be read on."""
        deadline = time.monotonic() + patience
        while not self._ended:
            content = self._piece(patience)
            if content:
                return content
            if time.monotonic() > deadline:  # bytes came, but nothing that they stand for
                raise self._failed(_late("nothing came in time"))
        return b""

    def read_whole(self, deadline: float, silence: float) -> bytes:
        """The rest of the body, until `deadline`, no silence in it longer than `silence`."""
        content = bytearray()
        while not self._ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._failed(_late("the reply did not end in time"))
            content += self._piece(min(left, silence))
        return bytes(content)

    def close(self) -> None:
        """As `OpenResponse.close`."""
        self._closed = True
        if self._is_gone:
            return
        self._is_gone = True
        if not self._process.forked:
            with contextlib.suppress(Exception):  # it was not open, or has gone meanwhile
                self._raw.shutdown()  # wakes a reader
        close = getattr(self._raw, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):  # of the reader, which releases it now
                close()
        self._let_go(False)

    def __del__(self) -> None:
        if not getattr(self, "_is_gone", True):
            self.close()

    def _piece(self, patience: float) -> bytes:
        """Some content, or none; the end is told by `_ended`."""
        if self._process.forked:
            raise of_the_parent()
        if self._closed:
            raise TransportFailure(Phase.REPLY_BROKEN, "the stream was closed")
        try:
            if self._set_timeout is not None:
                self._set_timeout(min(max(patience, _SHORTEST), LONGEST))
            data = self._receive()
            if not self._closed:
                content = self._coding.feed(data) if data else self._coding.finish()
                if not data:
                    self._end()
                return content
            failure = TransportFailure(Phase.REPLY_BROKEN, "the stream was closed")
        except ERRORS as error:
            failure = failure_within_body(error)
        except Exception:  # urllib3 was taken by surprise
            if not self._closed:
                raise
            failure = TransportFailure(Phase.REPLY_BROKEN, "the stream was closed")
        if self._closed:
            raise TransportFailure(Phase.REPLY_BROKEN, "the stream was closed")
        raise self._failed(failure)

    def _end(self) -> None:
        self._ended = True
        if not self._is_gone:
            self._is_gone = True
            self._let_go(True)

    def _failed(self, failure: TransportFailure) -> TransportFailure:
        self.close()
        return failure


def _late(what: str) -> TransportFailure:
    return TransportFailure(Phase.REPLY_BROKEN, what, timed_out=True)


def _reader(response: requests.Response) -> Callable[[], bytes]:
    """Some bytes of the body as they came, content coding and all; `b""` is the end."""
    raw: Any = response.raw
    if isinstance(raw, urllib3.BaseHTTPResponse):
        return partial(raw.read1, _BLOCK, decode_content=False)
    if raw is not None:
        return partial(raw.read, _BLOCK)
    return iter((response.content, b"")).__next__


def _refusal(method: str, status: int, headers: Headers) -> str:
    """Why the head is that of no reply: what it leaves open, http.client would guess."""
    if 100 <= status < 200:
        return f"an informational reply ({status}) came as the final one"
    try:
        framing_of(method, ResponseHead(status, headers))
    except FramingError as error:
        return str(error)
    return ""
