"""Undoes the content codings `gzip` and `deflate` of a body that comes in pieces.

Pure: bytes in, bytes out, by way of zlib. What a body may grow to is bounded *while* it is
inflated, so a few kilobytes that claim to be gigabytes cost no more memory than the limit.
"""

from __future__ import annotations

import sys
import zlib
from contextlib import suppress
from typing import Any, List, Optional

_GZIP = frozenset({"gzip", "x-gzip"})  # RFC 9110, 8.4.1.3: both names mean the same
_DEFLATE = "deflate"
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

    __slots__ = ("_damage", "_gzip", "_limit", "_member", "_room", "_wrapped")

    def __init__(self, coding: str, limit: int) -> None:
        if not self.supports(coding):
            raise ValueError(f"content coding {coding!r} cannot be undone")
        self._gzip = coding.lower() in _GZIP
        self._limit = limit
        self._room = min(limit, sys.maxsize - 1)
        self._member: Any = None  # a decompressor of zlib
        self._wrapped = False  # a whole member lies behind us
        self._damage: Optional[InflateError] = None

    @staticmethod
    def supports(coding: str) -> bool:
        """Whether `coding`, one name from a `Content-Encoding` field, can be undone here."""
        name = coding.lower()
        return name in _GZIP or name == _DEFLATE

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the body, inflated; maybe `b""`.

        Raises `InflateError` for bytes that the coding does not allow, once what came before them
        was given; `InflateLimitError` as soon as the body exceeds the limit. Either is final.
        """
        if self._damage is not None:
            raise self._damage
        inflated: List[bytes] = []
        try:
            for start in range(0, len(data), _PIECE):
                self._feed(data[start : start + _PIECE], inflated)
        except InflateLimitError:
            raise
        except InflateError as error:
            if not any(inflated):
                raise
            self._damage = error
        return b"".join(inflated)

    def _feed(self, piece: bytes, inflated: List[bytes]) -> None:
        while piece:
            member = self._member
            if member is None:
                piece = self._between_members(piece)
                if not piece:
                    return
                member = self._member = self._new_member(piece[0])
            self._inflate(member, piece, inflated)
            piece = b""
            if member.eof:
                piece = member.unused_data
                self._member = None
                self._wrapped = True

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

    def _inflate(self, member: Any, data: bytes, inflated: List[bytes]) -> None:
        before = member.copy()
        try:
            # One byte beyond the limit tells too much from just enough.
            inflated.append(self._counted(member.decompress(data, self._room + 1)))
        except zlib.error as error:
            with suppress(zlib.error):  # which gave nothing of what came before the damage
                bytewise = (data[at : at + 1] for at in range(len(data)))
                inflated.extend(self._counted(before.decompress(byte)) for byte in bytewise)
            raise InflateError(f"compressed body is damaged: {error}") from error

    def _counted(self, inflated: bytes) -> bytes:
        if len(inflated) > self._room:
            raise InflateLimitError(f"body inflates to more than {self._limit} bytes")
        self._room -= len(inflated)
        return inflated
