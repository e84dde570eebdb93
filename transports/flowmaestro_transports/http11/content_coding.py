"""Undoes the content coding of a body that comes in pieces, and bounds what it may grow to.

Pure: bytes in, bytes out, by way of zlib. The bound holds *while* a body is inflated, so a few
kilobytes that claim to be gigabytes cost no more memory than the limit.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any, List, Optional

from flowmaestro_core.http.messages import Headers

MAX_BODY = 64 * 1024 * 1024
"""Bytes that a reply read whole may have, inflated."""
AT_ONCE = 1024 * 1024
"""Bytes that are given at once: of an event stream, each takes many times its memory."""
_PIECE = 16 * 1024
"""Bytes given to zlib at once. zlib copies what follows the end of a gzip member, so a body of
very many tiny members would cost quadratic time if it were given whole."""

_GZIP = frozenset({"gzip", "x-gzip"})  # RFC 9110, 8.4.1.3: both names mean the same
_DEFLATE = "deflate"


class CodingError(ValueError):
    """The body is not what its content coding says, ends too early, or is too long."""


class ContentDecoder:
    """Decodes the body under `headers`: `feed` each piece as it comes, then `finish`.

    The codings are `gzip`, `x-gzip` and `deflate`, in any case. Another one is refused with the
    first byte of the body, not before, since replies without content may name one, too. `limit` is
    the most bytes that the body may have, decoded.

    A gzip body may have several members (RFC 1952, 2.2), with zero bytes as padding after each.
    A deflate body is taken with its zlib wrapping (RFC 9110, 8.4.1.2) or, as some servers send
    it, without.

    Attributes:
        headers: those that fit the decoded body: without `Content-Encoding` when that is undone.
        pending: whether `feed(b"")` may give more.

    """

    __slots__ = (
        *("_coding", "_damage", "_limit", "_member", "_room", "_waiting", "_wrapped"),
        *("headers", "pending"),
    )

    def __init__(self, headers: Headers, limit: int) -> None:
        self.headers = headers
        self.pending = False
        self._limit = self._room = limit
        self._coding = ""
        if "content-encoding" not in headers:
            return
        coding = headers["content-encoding"].strip().lower()
        if coding in _GZIP or coding == _DEFLATE:
            self.headers = Headers(
                pair for pair in headers.pairs if pair[0].lower() != "content-encoding"
            )
        self._coding = "" if coding == "identity" else coding
        self._member: Any = None  # a decompressor of zlib
        self._wrapped = False  # a whole member lies behind us
        self._damage: Optional[CodingError] = None
        self._waiting: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """The next bytes of the body, decoded; maybe `b""`. About `AT_ONCE` at most, if inflated.

        When there are more, they are `pending`: feed `b""` for them. Raises `CodingError` for
        bytes that the coding does not allow, and as soon as the body exceeds the limit, once what
        came before was given. That is final.
        """
        if not self._coding:
            return self._counted(data)
        if self._damage is not None:
            raise self._damage
        data, more, self.pending = self._waiting + data, self.pending, False
        inflated: List[bytes] = []
        at, stop = 0, self._room - AT_ONCE
        try:
            while (more or at < len(data)) and self._room > stop:
                piece, more = data[at : at + _PIECE], False
                at += len(piece) - self._inflate(piece, inflated)
        except CodingError as error:
            self._damage = error
            self.pending = any(inflated)  # then the next `feed` raises
            if not self.pending:
                raise
        else:
            self._waiting = data[at:]
            self.pending = self._room <= stop and (self._member is not None or at < len(data))
        return b"".join(inflated)

    def finish(self) -> bytes:
        """The end of the body, `b""`. Raises `CodingError` if it was cut off, or damaged."""
        if self._coding:
            if self._damage is not None:
                raise self._damage
            if self._member is not None:
                raise CodingError("compressed body ends too early")
        return b""

    def _inflate(self, piece: bytes, inflated: List[bytes]) -> int:
        """Inflate a piece as far as one member goes; how many bytes of it are left."""
        member, before = self._member, None
        if member is not None:
            before = member.copy()
        else:
            if self._wrapped:
                if self._coding == _DEFLATE:
                    raise CodingError("compressed body goes on after its end")
                piece = piece.lstrip(b"\0")
                if not piece:
                    return 0
            member = self._member = self._new_member(piece[0])
        try:
            # One byte beyond the limit tells too much from just enough.
            inflated.append(self._counted(member.decompress(piece, min(self._room + 1, AT_ONCE))))
        except zlib.error as error:
            before = before or self._new_member(piece[0])
            with suppress(zlib.error):  # which gave nothing of what came before the damage
                bytewise = (piece[at : at + 1] for at in range(len(piece)))
                inflated.extend(self._counted(before.decompress(byte)) for byte in bytewise)
            raise CodingError(f"compressed body is damaged: {error}") from error
        if not member.eof:
            return len(member.unconsumed_tail)
        self._member = None
        self._wrapped = True
        return len(member.unused_data)

    def _new_member(self, first_byte: int) -> Any:
        if self._coding in _GZIP:
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        if self._coding != _DEFLATE:
            raise CodingError(f"content coding {self._coding!r} cannot be undone")
        # A zlib header begins with the method, 8, in its low four bits (RFC 1950, 2.2). Bare
        # deflate data never does: it would be a stored block with padding that is not zero.
        zlib_wrapped = first_byte & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if zlib_wrapped else -zlib.MAX_WBITS)

    def _counted(self, decoded: bytes) -> bytes:
        self._room -= len(decoded)
        if self._room < 0:
            raise CodingError(f"the reply has more than {self._limit} bytes")
        return decoded
