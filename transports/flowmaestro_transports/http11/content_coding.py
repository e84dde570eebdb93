"""Undoes the content coding of one reply, and bounds what the reply may grow to."""

from __future__ import annotations

from typing import Optional

from flowmaestro_core.http.messages import Headers
from flowmaestro_transports.http11.inflate import InflateError, InflateLimitError, Inflater

MAX_BODY = 64 * 1024 * 1024
"""Bytes that a reply read whole may have, inflated."""


class ContentDecoder:
    """Decodes the body under `headers`, up to `limit` bytes.

    `headers` of the decoder are those that fit the decoded body: without `Content-Encoding`
    when that is undone. A coding that cannot be undone is refused with the first byte of the
    body, not before, since replies without content may name one, too.
    """

    __slots__ = ("_inflater", "_limit", "_room", "_unknown", "headers", "pending")

    def __init__(self, headers: Headers, limit: int) -> None:
        self.headers = headers
        self.pending = False
        self._limit = limit
        self._room = limit
        self._unknown = ""
        self._inflater: Optional[Inflater] = None
        if "content-encoding" not in headers:
            return
        coding = headers["content-encoding"].strip()
        if Inflater.supports(coding):
            self._inflater = Inflater(coding, limit)
            self.headers = Headers(
                pair for pair in headers.pairs if pair[0].lower() != "content-encoding"
            )
        elif coding.lower() not in {"", "identity"}:
            self._unknown = coding

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes of `data`. Raises, and may leave more `pending`, as `Inflater.feed`."""
        if self._inflater is not None:
            content = self._inflater.feed(data)
            self.pending = self._inflater.pending
            return content
        if self._unknown and data:
            raise InflateError(f"content coding {self._unknown!r} cannot be undone")
        self._room -= len(data)
        if self._room < 0:
            raise InflateLimitError(f"the reply has more than {self._limit} bytes")
        return data

    def finish(self) -> bytes:
        """What was held back when the body has ended. Raises `InflateError` if it was cut off."""
        return b"" if self._inflater is None else self._inflater.finish()
