"""Decodes the content coding of a body that arrives in pieces, and limits the size of the result.

Pure: bytes in, bytes out, with zlib. The limits hold *while* a body is decompressed, so a few
kilobytes that would decompress to gigabytes take no more memory than a piece.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any, List, Optional

from flowmaestro_core.http.messages import Headers

MAX_BODY = 64 * 1024 * 1024
"""The most bytes of a response that is read whole, decompressed, if its request names no limit. The
core names one for each call, so this one is for other callers of a transport."""
MAX_PIECE = 64 * 1024
"""The most bytes that one `ContentDecoder.feed` decompresses. A few kilobytes may stand for
gigabytes. Between two pieces the reader checks its deadline, and an event loop runs other tasks."""
_INPUT_SIZE = 16 * 1024
"""How many bytes zlib gets at once. zlib copies the bytes that follow the end of a gzip member, so
a body of very many tiny members would cost quadratic time if zlib got all of it at once."""

_GZIP = frozenset({"gzip", "x-gzip"})  # RFC 9110, 8.4.1.3: both names mean the same
_DEFLATE = "deflate"


class CodingError(ValueError):
    """The body is malformed, truncated or too long, or its content coding is unknown."""


class ContentDecoder:
    """Decodes the body that came with `headers`: `feed` each piece as it arrives, then `finish`.

    The codings are `gzip`, `x-gzip` and `deflate`, in upper or lower case. Any other coding but
    `identity` is refused at the first byte of the body, not before, because a response without
    content may name it. `limit` is the most bytes that the decoded body may have.

    A gzip body may have several members (RFC 1952, 2.2), with zero bytes as padding after each.
    A deflate body may have the zlib wrapping (RFC 9110, 8.4.1.2) or, as some servers send it, none.

    Attributes:
        headers: the header fields of the decoded body, without `Content-Encoding` if we decode it.
        pending: whether `feed(b"")` may return more, or raises for a fault after the last bytes.

    """

    __slots__ = (
        "_coding",
        "_damage",
        "_limit",
        "_member",
        "_room",
        "_waiting",
        "_wrapped",
        "headers",
        "pending",
    )

    def __init__(self, headers: Headers, limit: int) -> None:
        self.headers: Headers = headers
        self.pending: bool = False
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
        self._wrapped = False  # True after the first member
        self._damage: Optional[CodingError] = None
        self._waiting: bytes = b""

    def feed(self, data: bytes) -> bytes:
        """Return the next bytes of the body, decoded: `b""` if `data` completes none.

        At most `MAX_PIECE` bytes are decompressed. If more can be decompressed, `pending` is True:
        feed `b""` to get the next bytes.

        Raises `CodingError` for a fault: bytes that the coding does not allow, or a body beyond the
        limit. If this call has decoded bytes before the fault, it returns these bytes, sets
        `pending`, and leaves the error to the next call. Every call after the error raises it
        again. Of a body beyond the limit, the last bytes within the limit may be missing.
        """
        if not self._coding:
            return self._counted(data)
        if self._damage is not None:
            raise self._damage
        data, more, self.pending = self._waiting + data, self.pending, False
        decoded: List[bytes] = []
        at, stop = 0, self._room - MAX_PIECE
        try:
            while (more or at < len(data)) and self._room > stop:
                piece, more = data[at : at + _INPUT_SIZE], False
                at += len(piece) - self._decompress(piece, self._room - stop, decoded)
        except CodingError as error:
            self._damage = error
            self.pending = any(decoded)  # then the next `feed` raises
            if not self.pending:
                raise
        else:
            self._waiting = data[at:]
            self.pending = self._room <= stop and (self._member is not None or at < len(data))
        return b"".join(decoded)

    def finish(self) -> bytes:
        """Check at the end of the body that it is complete. Always return `b""`.

        Raises `CodingError` if the body is incomplete or malformed.
        """
        if self._coding:
            if self._damage is not None:
                raise self._damage
            if self._member is not None:
                raise CodingError("compressed body ends too early")
        return b""

    def _decompress(self, piece: bytes, size: int, decoded: List[bytes]) -> int:
        """Decompress `piece` up to the end of the current member.

        Append the result to `decoded`, and stop after `size` decompressed bytes. Return how many
        bytes of `piece` were not decompressed. At a malformed byte, append what comes before it,
        then raise `CodingError`.
        """
        member, before = self._member, None
        if member is not None:
            # A decompressor that meets damage returns nothing of the piece. This copy then decodes
            # the bytes before the damage, so that whole events are delivered before the error.
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
            # Ask for one byte beyond the limit, to tell a body that is too long from one that
            # just fits.
            decoded.append(self._counted(member.decompress(piece, min(self._room + 1, size))))
        except zlib.error as error:
            before = before or self._new_member(piece[0])
            with suppress(
                zlib.error
            ):  # The first attempt returned nothing of what precedes the damage.
                bytewise = (piece[at : at + 1] for at in range(len(piece)))
                decoded.extend(self._counted(before.decompress(byte)) for byte in bytewise)
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
            # Do not quote it: it may echo a secret, and in other letters than the request.
            raise CodingError("the content coding of the response is neither gzip nor deflate")
        # A zlib header begins with the method, 8, in its low four bits (RFC 1950, 2.2). Bare
        # deflate data never does: it would be a stored block with padding that is not zero.
        zlib_wrapped = first_byte & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if zlib_wrapped else -zlib.MAX_WBITS)

    def _counted(self, decoded: bytes) -> bytes:
        self._room -= len(decoded)
        if self._room < 0:
            raise CodingError(f"the response has more than {self._limit} bytes")
        return decoded
