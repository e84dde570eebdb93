"""Undoes the content codings `gzip` and `deflate` of a body that comes in pieces.

Pure: bytes in, bytes out, by way of zlib. What a body may grow to is bounded *while* it is
inflated, so a few kilobytes that claim to be gigabytes cost no more memory than the limit.
"""

from __future__ import annotations

import sys
import zlib
from contextlib import suppress
from typing import Any, List, Optional, cast

_GZIP = frozenset({"gzip", "x-gzip"})  # RFC 9110, 8.4.1.3: both names mean the same
_DEFLATE = "deflate"
AT_ONCE = 1024 * 1024
"""Bytes that are given at once: of an event stream, each takes many times its memory."""
_PIECE = 16 * 1024
"""Bytes given to zlib at once. zlib copies what follows the end of a gzip member, so a body of
very many tiny members would cost quadratic time if it were given whole."""


class InflateError(ValueError):
    """The body is not what its content coding says, or it ends too early."""


class InflateLimitError(InflateError):
    """The body inflates to more bytes than the limit allows."""


class Inflater:
    """Inflates one body: `feed` each piece as it comes, then `finish`.

    `coding` is `gzip`, `x-gzip` or `deflate` in any case (`supports` tells); `identity` is for
    the caller to leave alone. `limit` is the most bytes that the body may inflate to. Raises
    `ValueError` for another coding.

    A gzip body may have several members (RFC 1952, 2.2), with zero bytes as padding after each.
    A deflate body is taken with its zlib wrapping (RFC 9110, 8.4.1.2) or, as some servers send
    it, without. An empty body is empty whatever its coding: replies without content may still
    name one.
    """

    __slots__ = (
        *("_damage", "_gzip", "_limit", "_member", "_room", "_waiting", "_wrapped"),
        "pending",
    )

    def __init__(self, coding: str, limit: int) -> None:
        if not self.supports(coding):
            raise ValueError(f"content coding {coding!r} cannot be undone")
        self._gzip = coding.lower() in _GZIP
        self._limit = limit
        self._room = min(limit, sys.maxsize - 1)
        self._member: Any = None  # a decompressor of zlib
        self._wrapped = False  # a whole member lies behind us
        self._damage: Optional[InflateError] = None
        self._waiting = b""
        self.pending = False
        """Whether `feed(b"")` may give more."""

    @staticmethod
    def supports(coding: str) -> bool:
        """Whether `coding`, one name from a `Content-Encoding` field, can be undone here."""
        name = coding.lower()
        return name in _GZIP or name == _DEFLATE

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the body, inflated; maybe `b""`. About `AT_ONCE` at most.

        When there are more, they are `pending`: feed `b""` for them. Raises `InflateError` for
        bytes that the coding does not allow, once what came before them was given;
        `InflateLimitError` as soon as the body exceeds the limit. Either is final.
        """
        if self._damage is not None:
            raise self._damage
        data, more, self.pending = self._waiting + data, self.pending, False
        inflated: List[bytes] = []
        at, stop = 0, self._room - AT_ONCE
        try:
            while (more or at < len(data)) and self._room > stop:
                piece, more = data[at : at + _PIECE], False
                at += len(piece) - len(self._feed(piece, inflated, stop))
        except InflateLimitError:
            raise
        except InflateError as error:
            if not any(inflated):
                raise
            self._damage = error
            at = len(data)
        self._waiting = data[at:]
        self.pending = (
            self._room <= stop
            and self._damage is None
            and (self._member is not None or at < len(data))
        )
        return b"".join(inflated)

    def _feed(self, piece: bytes, inflated: List[bytes], stop: int) -> bytes:
        """Inflate until there is room for `stop` only; what of the piece is still to be fed."""
        while True:
            member = before = self._member
            if member is None:
                piece = self._between_members(piece)
                if not piece:
                    return b""
                member = self._member = self._new_member(piece[0])
            else:
                before = member.copy()
            self._inflate(member, before, piece, inflated)
            if not member.eof:
                return cast("bytes", member.unconsumed_tail)
            self._member = None
            self._wrapped = True
            piece = member.unused_data
            if not piece or self._room <= stop:
                return piece

    def finish(self) -> bytes:
        """Says that the body has ended, and gives what was still held back (for now, nothing).

        Raises `InflateError` when the body was cut off, or damaged.
        """
        if self._damage is not None:
            raise self._damage
        if self._member is not None:
            raise InflateError("compressed body ends too early")
        return b""

    def _between_members(self, data: bytes) -> bytes:
        if not self._wrapped:
            return data
        if self._gzip:
            return data.lstrip(b"\0")
        raise InflateError("compressed body goes on after its end")

    def _new_member(self, first_byte: int) -> Any:
        if self._gzip:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        # A zlib header begins with the method, 8, in its low four bits (RFC 1950, 2.2). Bare
        # deflate data never does: it would be a stored block with padding that is not zero.
        zlib_wrapped = first_byte & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if zlib_wrapped else -zlib.MAX_WBITS)

    def _inflate(self, member: Any, before: Any, data: bytes, inflated: List[bytes]) -> None:
        """Inflate `data`; `before` is the member as it is, `None` for a new one."""
        try:
            # One byte beyond the limit tells too much from just enough.
            inflated.append(self._counted(member.decompress(data, min(self._room + 1, AT_ONCE))))
        except zlib.error as error:
            before = before or self._new_member(data[0])
            with suppress(zlib.error):  # which gave nothing of what came before the damage
                bytewise = (data[at : at + 1] for at in range(len(data)))
                inflated.extend(self._counted(before.decompress(byte)) for byte in bytewise)
            raise InflateError(f"compressed body is damaged: {error}") from error

    def _counted(self, inflated: bytes) -> bytes:
        if len(inflated) > self._room:
            raise InflateLimitError(f"body inflates to more than {self._limit} bytes")
        self._room -= len(inflated)
        return inflated
