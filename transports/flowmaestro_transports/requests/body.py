"""The body of a reply that requests has brought."""

from __future__ import annotations

import contextlib
import io
import re
import time
from functools import partial
from typing import Any, Callable, List, Optional, Tuple

import requests
import urllib3

from flowmaestro_core.http.messages import Headers, Phase, ResponseHead, TransportFailure
from flowmaestro_transports.driving.fork_guard import ForkGuard, of_the_parent
from flowmaestro_transports.http11.content_coding import ContentDecoder
from flowmaestro_transports.http11.failures import ReplyError, closed, too_slow
from flowmaestro_transports.http11.framing import framing_of
from flowmaestro_transports.requests.failure import ERRORS, failure_within_body

LONGEST = 1e6
"""Seconds: the longest time that fits into a socket's timeout on every platform."""

_SHORTEST = 0.001
"""Seconds: a socket timeout of zero would mean "do not wait", not "the time is up"."""

_BLOCK = 64 * 1024
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]+")
"""Where the value of a header field went on in the next line: it stands for a space."""


class Body:
    """A reply whose body is still open. One thread reads; any thread may close.

    `limit` is the most bytes that the body may have, inflated. A body that is closed before its
    end adds its reply to `given_up`: the connection is closed, but its pool does not know of it.

    The patience of a read bounds each receive of the socket, as far as urllib3 shows it (not in a
    reply that ends with its connection); elsewhere the time limit of the head goes on to count.
    A receive that has timed out cannot be repeated.
    """

    def __init__(
        self, response: requests.Response, method: str, limit: int, given_up: List[Any]
    ) -> None:
        raw: Any = response.raw
        self._raw: Any = raw
        self._given_up = given_up
        self._process = ForkGuard()
        self._closed = self._ended = False
        self.status = response.status_code
        self._coding, refusal = _read_head(response, method, limit)
        self.headers = self._coding.headers
        self._receive: Any = _reader(response)
        if refusal is not None:  # raised here, so that no frame with the head comes along
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
                raise self._late()
        return b""

    def read_whole(self, deadline: float, silence: float) -> bytes:
        """The rest of the body, until `deadline`, no silence in it longer than `silence`."""
        content = io.BytesIO()  # which shows nothing of the reply in a traceback
        while not self._ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._late()
            content.write(self._piece(min(left, silence)))
        return content.getvalue()

    def close(self) -> None:
        """As `OpenResponse.close`."""
        if self._closed or self._ended:
            return
        self._closed = True
        if not self._process.forked:
            with contextlib.suppress(Exception):  # it was not open, or has gone meanwhile
                self._raw.shutdown()  # wakes a reader
        with contextlib.suppress(Exception):  # of the reader, which releases it now
            self._raw.close()
        self._given_up.append(self._raw)
        self._raw = self._receive = None  # a failure that somebody keeps leads here

    def __del__(self) -> None:
        if hasattr(self, "_ended"):
            self.close()

    def _piece(self, patience: float) -> bytes:
        """Some content, or none; the end is told by `_ended`."""
        if self._process.forked:
            raise of_the_parent()
        if self._closed:
            raise closed(Phase.REPLY_BROKEN)
        try:
            # None as soon as it is back in its pool, where it may serve another thread
            sock = getattr(getattr(self._raw, "connection", None), "sock", None)
            if sock is not None:
                sock.settimeout(min(max(patience, _SHORTEST), LONGEST))
            pending = self._coding.pending
            data = b"" if pending else self._receive()
            content = self._coding.feed(data) if data or pending else self._coding.finish()
        except Exception as error:
            if not self._closed and not isinstance(error, ERRORS):
                raise
            failure = failure_within_body(error)
        else:
            if not self._closed:
                self._ended = not data and not pending
                return content
            failure = closed(Phase.REPLY_BROKEN)
        if self._closed:
            raise closed(Phase.REPLY_BROKEN)
        self.close()
        raise failure

    def _late(self) -> TransportFailure:
        self.close()
        return too_slow(Phase.REPLY_BROKEN)


def _read_head(
    response: requests.Response, method: str, limit: int
) -> Tuple[ContentDecoder, Optional[str]]:
    """What undoes the content coding of a reply, and why the reply is refused."""
    fields = (getattr(response.raw, "headers", None) or response.headers).items()
    given = Headers(
        (name, _FOLD.sub(" ", value).strip(" \t"))
        for name, value in fields
        if name.lower() != "content-encoding" or not _was_read(response)
    )
    coding = ContentDecoder(given, limit)
    if 100 <= response.status_code < 200:
        return coding, f"an informational reply ({response.status_code}) came as the final one"
    try:
        framing_of(method, ResponseHead(response.status_code, given))  # http.client would guess
    except ReplyError as error:
        return coding, str(error)
    return coding, None


def _reader(response: requests.Response) -> Callable[[], bytes]:
    """Some bytes of the body as they came, content coding and all; `b""` is the end."""
    if isinstance(response.raw, urllib3.BaseHTTPResponse) and not _was_read(response):
        return partial(response.raw.read1, _BLOCK, decode_content=False)
    return iter((response.content, b"")).__next__  # of an adapter without a network


def _was_read(response: requests.Response) -> bool:
    """Whether a hook of the session has read the body: requests keeps it then, inflated."""
    raw = response.raw
    return isinstance(raw, urllib3.BaseHTTPResponse) and (raw.closed or raw.tell() > 0)
