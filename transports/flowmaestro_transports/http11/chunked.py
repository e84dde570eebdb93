"""Takes the chunked transfer coding off a body that comes in pieces (RFC 9112, 7.1).

Pure: bytes in, bytes out. However the bytes are cut, the result is the same, and the work is
linear in their number.
"""

from __future__ import annotations

import re
from typing import Callable, List, Optional

_MAX_LINE = 16 * 1024
"""Bytes that one chunk header or trailer line may have: an endless line must not pile up."""

_HEADER = rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n"
_TRAILER = rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n]*)?\r\n"  # the empty line ends them all

# What may be waiting for its rest: any beginning of the line.
_HEADER_BEGUN = rb"(?:[0-9A-Fa-f]{1,16}(?:[ \t]*(?:;[^\r\n]*)?\r?)?)?"
_TRAILER_BEGUN = rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?::[^\r\n]*\r?)?)?|\r"

# What may be added without a new look at what is waiting, by the part of the line that it ends in.
_MORE_TEXT = re.compile(rb"[^\r\n]*").fullmatch
_MORE_SPACE = re.compile(rb"[ \t]*").fullmatch
_MORE_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*").fullmatch


class ChunkError(ValueError):
    """The bytes are not chunked as RFC 9112, section 7.1, says."""


class _Line:
    """One kind of line between chunks: how it reads whole, and how its beginning reads."""

    __slots__ = ("begun", "name", "whole")

    def __init__(self, name: str, whole: bytes, begun: bytes) -> None:
        self.name = name
        self.whole = re.compile(whole).match
        self.begun = re.compile(begun).fullmatch


_FIRST = _Line("chunk header", _HEADER, _HEADER_BEGUN)
# The line end that closes a chunk's data is read as part of the next header: one step a chunk.
_NEXT = _Line("chunk header", rb"\r\n" + _HEADER, rb"\r?|\r\n" + _HEADER_BEGUN)
_AFTER_LAST = _Line("trailer", _TRAILER, _TRAILER_BEGUN)


class ChunkDecoder:
    """Decodes one chunked body: `feed` each piece as it comes until `finished`.

    Chunk extensions and trailers are skipped. Lines end with CRLF and nothing else; whatever
    the grammar does not allow is refused as soon as it is seen, and so is a line of more than
    16 KiB.
    """

    __slots__ = ("_expected", "_held", "_held_size", "_left", "_more", "finished", "trailing")

    def __init__(self) -> None:
        self.finished = False
        """Whether the whole body, trailers included, has come. Without it, it was cut off."""
        self.trailing = b""
        """What was fed beyond the end of the body: it belongs to whatever comes next."""
        self._expected = _FIRST
        self._held: List[bytes] = []  # the beginning of a line
        self._held_size = 0
        self._more: Optional[Callable[[bytes], object]] = None  # tells what surely continues it
        self._left: int = 0  # bytes still to come of the chunk that is being read

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes in `data`; maybe `b""`.

        Raises `ChunkError` for bytes that the coding does not allow. That is final.
        """
        if self._left >= len(data):
            self._left -= len(data)
            return data
        decoded: List[bytes] = []
        position = self._left
        if position:
            decoded.append(data[:position])
            self._left = 0
        elif self._more is not None and self._more(data):
            self._keep(data)
            return b""
        elif self._held:
            data = b"".join((*self._held, data))
            self._let_go()
        end = len(data)
        while position < end and not self.finished:
            line = self._expected.whole(data, position)
            if line is None or line.end() - position > _MAX_LINE:
                self._hold(data[position:])
                break
            position = line.end()
            if self._expected is _AFTER_LAST:
                self.finished = line[0] == b"\r\n"
                continue
            size = int(line[1], 16)
            if not size:
                self._expected = _AFTER_LAST
                continue
            self._expected = _NEXT
            chunk_end = position + size
            decoded.append(data[position:chunk_end])
            if chunk_end > end:
                self._left = chunk_end - end
            position = chunk_end
        if self.finished:
            self.trailing += data[position:]
        return b"".join(decoded)

    def _hold(self, rest: bytes) -> None:
        """Keeps an unfinished line for later, if it can still become a good one."""
        line = self._expected
        if len(rest) <= _MAX_LINE and not line.begun(rest):
            raise ChunkError(f"bad {line.name}")  # not quoted: it may be an echo of a secret
        self._keep(rest)
        if rest.endswith(b"\r"):
            return
        if b";" in rest or b":" in rest:
            self._more = _MORE_TEXT
        elif rest[-1:] in b" \t":
            self._more = _MORE_SPACE
        elif line is _AFTER_LAST:
            self._more = _MORE_NAME

    def _keep(self, more: bytes) -> None:
        self._held.append(more)
        self._held_size += len(more)
        if self._held_size > _MAX_LINE:
            raise ChunkError(f"{self._expected.name} of more than {_MAX_LINE} bytes")

    def _let_go(self) -> None:
        self._held.clear()
        self._held_size = 0
        self._more = None
