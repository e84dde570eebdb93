"""How the body of a reply ends (RFC 9112, 6.3), and what its framing adds to it.

Pure: bytes in, bytes out. However the bytes are cut, the result is the same, and the work is
linear in their number. A framing hands over what came whole; `error` then says what is wrong
with the bytes behind it.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Callable, List, Optional

from flowmaestro_core.http.messages import ResponseHead

MAX_LINE = 16 * 1024
"""Bytes that one chunk header or trailer line may have."""
MAX_TRAILERS = 64 * 1024
"""Bytes that all trailer lines of a body may have."""

_SPACE = " \t"
"""All that counts as space in a header field (RFC 9110, 5.6.3)."""
_NO_CONTENT = frozenset({204, 304})

_HEADER = rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n"
_TRAILER = rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n]*)?\r\n"  # the empty line ends them all

# What may be waiting for its rest: any beginning of the line.
_HEADER_BEGUN = rb"(?:[0-9A-Fa-f]{1,16}(?:[ \t]*(?:;[^\r\n]*)?\r?)?)?"
_TRAILER_BEGUN = rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?::[^\r\n]*\r?)?)?|\r"

_NAME = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


# What may be added without a new look at what is waiting, by the part of the line that it ends in.


def _is_text(more: bytes) -> bool:
    return b"\r" not in more and b"\n" not in more


def _is_space(more: bytes) -> bool:
    return not more.strip(b" \t")


def _is_name(more: bytes) -> bool:
    return not more.translate(None, _NAME)


class FramingError(ValueError):
    """The head of a reply does not say where its body ends."""


class Framing:
    """Feed it the bytes behind the head, in pieces, until it has `finished` or has an `error`.

    Attributes:
        finished: whether the body has come to its end.
        error: what is wrong with the body; nothing more comes of it.
        rest: what was fed beyond the end of the body: it belongs to the next reply.

    """

    __slots__ = ("error", "finished", "rest")

    def __init__(self) -> None:
        self.finished = False
        self.error: Optional[str] = None
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The content in `data`; maybe `b""`."""
        raise NotImplementedError

    def connection_ended(self) -> None:
        """No more bytes come: that is the end of the body, or an error."""
        raise NotImplementedError


class Counted(Framing):
    """A body of a known length (RFC 9112, 6.3, rule 6)."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        super().__init__()
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

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        return data

    def connection_ended(self) -> None:
        self.finished = True


class _Line:
    """One kind of line between chunks; what it reads like is compiled for the first such body."""

    def __init__(self, name: str, whole: bytes, begun: bytes) -> None:
        self.name = name
        self._whole, self._begun = whole, begun

    @cached_property
    def whole(self) -> Callable[[bytes, int], Optional[re.Match[bytes]]]:
        """Matches one that is whole."""
        return re.compile(self._whole).match

    @cached_property
    def begun(self) -> Callable[[bytes], Optional[re.Match[bytes]]]:
        """Matches a beginning of one."""
        return re.compile(self._begun).fullmatch


_FIRST = _Line("chunk header", _HEADER, _HEADER_BEGUN)
# The line end that closes a chunk's data is read as part of the next header: one step a chunk.
_NEXT = _Line("chunk header", rb"\r\n" + _HEADER, rb"\r?|\r\n" + _HEADER_BEGUN)
_AFTER_LAST = _Line("trailer", _TRAILER, _TRAILER_BEGUN)


class Chunked(Framing):
    """A chunked body (RFC 9112, 7.1).

    Chunk extensions and trailers are skipped. Lines end with CRLF and nothing else. What the
    grammar does not allow is an error as soon as it is seen, like a line of more than 16 KiB
    and a body with more than 64 KiB of trailers.
    """

    __slots__ = ("_expected", "_held", "_held_size", "_left", "_more", "_trailers")

    def __init__(self) -> None:
        super().__init__()
        self._expected = _FIRST
        self._held: List[bytes] = []  # the beginning of a line
        self._held_size = 0
        self._more: Optional[Callable[[bytes], bool]] = None  # tells what surely continues it
        self._left = 0  # bytes still to come of the chunk that is being read
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        if self._left >= len(data):
            self._left -= len(data)
            return data
        content: List[bytes] = []
        position = self._left
        if position:
            content.append(data[:position])
            self._left = 0
        elif self._more is not None and self._more(data):
            self._keep(data)
            return b""
        elif self._held:
            data = b"".join((*self._held, data))
            self._held.clear()
            self._held_size = 0
            self._more = None
        end = len(data)
        while position < end and not self.finished and self.error is None:
            line = self._expected.whole(data, position)
            if line is None or line.end() - position > MAX_LINE:
                self._hold(data[position:])
                break
            if self._expected is _AFTER_LAST:
                self._end_of_trailer(line.end() - position)
                position = line.end()
                continue
            position = line.end()
            size = int(line[1], 16)
            if not size:
                self._expected = _AFTER_LAST
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

    def _hold(self, rest: bytes) -> None:
        """Keep an unfinished line for later, if it can still become a good one."""
        line = self._expected
        if len(rest) <= MAX_LINE and not line.begun(rest):
            self.error = f"bad {line.name}"  # not quoted: it may be an echo of a secret
            return
        self._keep(rest)
        if rest.endswith(b"\r"):
            return
        if b";" in rest or b":" in rest:
            self._more = _is_text
        elif rest[-1:] in b" \t":
            self._more = _is_space
        elif line is _AFTER_LAST:
            self._more = _is_name

    def _keep(self, more: bytes) -> None:
        self._held.append(more)
        self._held_size += len(more)
        if self._held_size > MAX_LINE:
            self.error = f"{self._expected.name} of more than {MAX_LINE} bytes"


def framing_of(method: str, head: ResponseHead) -> Framing:
    """How the body behind `head`, the reply to a request with `method`, ends.

    Raises `FramingError` for what RFC 9112, 6.3, leaves open, and for a reply with both a length
    and a transfer coding: it may be an attempt to smuggle a reply in (6.1).
    """
    status, headers = head.status, head.headers
    tunnel = method == "CONNECT" and 200 <= status < 300
    if method == "HEAD" or status in _NO_CONTENT or tunnel:
        return Counted(0)
    transfer = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if transfer is not None:
        if length is not None:
            raise FramingError("the reply has a length and a transfer coding")
        if transfer.strip(_SPACE).lower() != "chunked":
            raise FramingError("the transfer coding of the reply is not chunked")
        return Chunked()
    if length is None:
        return UntilClose()
    value = length
    if "," in length:  # one value, repeated, is fine
        value, *others = {each.strip(_SPACE) for each in length.split(",")}
        value = "" if others else value
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise FramingError("the content length of the reply is not one number of bytes")
    return Counted(int(value))
