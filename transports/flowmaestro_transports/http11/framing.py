"""Finds the content of a response within its framing, and the end of its body (RFC 9112, 6.3).

Pure: bytes in, bytes out. The result does not depend on how the bytes are divided into pieces, and
the work is linear in their number. A framing returns all content before a fault; `error` then
describes the fault.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Callable, List, Optional

from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_transports.http11.failures import ReplyError

MAX_LINE = 16 * 1024
"""The most bytes of one chunk header, with the line end before it, or of one trailer line: h11's
limit for an incomplete line."""
MAX_TRAILERS = 64 * 1024
"""The most bytes of all trailer lines of a body. They are skipped, so this only bounds the time for
which a server can keep the end of a body away."""

_SPACE = " \t"
"""The white space of a header field (RFC 9110, 5.6.3)."""
_NO_CONTENT = frozenset({204, 304})

_HEADER = rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n"


class Framing:
    """The framing of a body: finds the content in the bytes that follow the head.

    Feed it these bytes, in pieces, until it has `finished` or has an `error`.

    Attributes:
        finished: whether the body is complete.
        error: what is wrong with the body, or None.
        rest: bytes beyond the end of the body, which belong to no response.

    """

    # Most bodies set only the first, and each attribute that is set costs every response.
    finished: bool = False
    error: Optional[str] = None
    rest: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Return the content in `data`, `b""` if there is none."""
        raise NotImplementedError

    def connection_ended(self) -> None:
        """Set `finished` if the end of the connection ends the body, else set `error`."""
        raise NotImplementedError


class Counted(Framing):
    """A body of a known length (RFC 9112, 6.3, rule 6)."""

    # Set in methods: named again, so that a checker need not infer their types.
    finished: bool
    error: Optional[str]
    rest: bytes

    def __init__(self, length: int) -> None:
        self.finished = not length
        self._left = length

    def feed(self, data: bytes) -> bytes:
        if len(data) > self._left:
            self.rest += data[self._left :]
            data = data[: self._left]
        self._left -= len(data)
        self.finished = not self._left
        return data

    def connection_ended(self) -> None:
        self.error = f"the body ended {self._left} bytes too early"


class UntilClose(Framing):
    """A body that ends with its connection (RFC 9112, 6.3, rule 8)."""

    def feed(self, data: bytes) -> bytes:
        return data

    def connection_ended(self) -> None:
        self.finished = True


class _Line:
    """A kind of line in a chunked body: a chunk header or a trailer.

    Its pattern is compiled when the first such line is read.
    """

    def __init__(self, name: str, pattern: bytes) -> None:
        self.name = name
        self._pattern = pattern

    @cached_property
    def match(self) -> Callable[[bytes, int], Optional[re.Match[bytes]]]:
        """The function that matches a complete line at a position."""
        return re.compile(self._pattern).match


_FIRST = _Line("chunk header", _HEADER)
# The line end after the data of a chunk is read with the next header: one match for each chunk.
_NEXT = _Line("chunk header", rb"\r\n" + _HEADER)
# An empty line ends the trailers.
_TRAILER = _Line("trailer", rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\0\n\v\f\r]*)?\r\n")


class Chunked(Framing):
    """A chunked body (RFC 9112, 7.1).

    Chunk extensions, spaces after a size, and trailers are skipped. Lines end with CRLF and nothing
    else. A malformed line is an error. So are a size of more than 16 digits, a line of more than
    16 KiB, and more than 64 KiB of trailers.
    """

    # Set in methods: named again, so that a checker need not infer their types.
    finished: bool
    error: Optional[str]
    rest: bytes

    def __init__(self) -> None:
        self._expected = _FIRST
        self._begun: List[bytes] = []  # the pieces of an incomplete line
        self._begun_size = 0
        self._left = 0  # bytes of the current chunk that have not arrived
        self._trailers = 0  # bytes of trailers so far

    def feed(self, data: bytes) -> bytes:
        if self._left >= len(data):
            self._left -= len(data)
            return data
        content: List[bytes] = []
        position = self._left
        if position:
            content.append(data[:position])
            self._left = 0
        elif self._begun:
            if b"\n" not in data:
                self._begin_line(data)
                return b""
            data = b"".join((*self._begun, data))
            self._begun.clear()
            self._begun_size = 0
        end = len(data)
        while position < end and not self.finished and self.error is None:
            line = self._expected.match(data, position)
            if line is None or line.end() - position > MAX_LINE:
                if self._expected is _NEXT and data[position:] == b"\r\n":
                    # A server that sends chunk by chunk ends each piece here. To take the line end
                    # now is less than to keep it and to join it to the next piece.
                    self._expected = _FIRST
                else:
                    self._refuse_or_begin(data[position:])
                break
            if self._expected is _TRAILER:
                self._end_of_trailer(line.end() - position)
                position = line.end()
                continue
            position = line.end()
            size = int(line[1], 16)
            if not size:
                self._expected = _TRAILER
                continue
            self._expected = _NEXT
            content.append(data[position : position + size])
            position += size
            if position > end:
                self._left = position - end
        if self.finished:
            self.rest += data[position:]
        return b"".join(content)

    def connection_ended(self) -> None:
        self.error = "the body ended before its last chunk"

    def _end_of_trailer(self, length: int) -> None:
        self.finished = length == len(b"\r\n")
        self._trailers += length
        if self._trailers > MAX_TRAILERS:
            self.error = f"trailers of more than {MAX_TRAILERS} bytes"

    def _refuse_or_begin(self, rest: bytes) -> None:
        """Set `error` if `rest` begins with a malformed line, or one that is too long.

        Buffer an incomplete line.
        """
        of_chunk = self._expected is _NEXT and rest.startswith(b"\r\n")
        end = rest.find(b"\n", 2 if of_chunk else 0)
        if 0 <= end < MAX_LINE:
            self.error = f"bad {self._expected.name}"  # Do not quote it: it may echo a secret.
        else:
            self._begin_line(rest)

    def _begin_line(self, more: bytes) -> None:
        self._begun.append(more)
        self._begun_size += len(more)
        if self._begun_size > MAX_LINE:
            self.error = f"{self._expected.name} of more than {MAX_LINE} bytes"


def framing_of(method: str, head: ResponseHead) -> Framing:
    """Return the framing of the body that follows `head`, the response to a request with `method`.

    If the method or the status allows no body, the header fields do not count. Otherwise this
    raises `ReplyError` for a transfer coding other than `chunked`, because no `TE` field has asked
    for one (RFC 9112, 6.3, would read until the connection ends). `ReplyError` is also raised for a
    length that is malformed or has more than 18 digits, and for a response with both a length and a
    transfer coding, which may be an attempt to smuggle a response (6.1).
    """
    status, fields = head.status, head.headers.by_name()
    tunnel = method == "CONNECT" and 200 <= status < 300
    if method == "HEAD" or status in _NO_CONTENT or tunnel:
        return Counted(0)
    transfer = fields.get("transfer-encoding")
    length = fields.get("content-length")
    if transfer is not None:
        if length is not None:
            raise ReplyError("the response has a length and a transfer coding")
        if transfer.strip(_SPACE).lower() != "chunked":
            raise ReplyError("the transfer coding of the response is not chunked")
        return Chunked()
    if length is None:
        return UntilClose()
    value = length
    if "," in length:  # The same value repeated is allowed.
        value, *others = {each.strip(_SPACE) for each in length.split(",")}
        value = "" if others else value
    # 18 digits are an exabyte. Python would need quadratic time for a very long number.
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise ReplyError("the content length of the response is not one number of bytes")
    return Counted(int(value))
