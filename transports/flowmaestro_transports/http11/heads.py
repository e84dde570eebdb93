"""Reads with h11 a head that is unusual, comes in pieces, or follows informational responses.

Most heads are plain and come in one piece. `exchange` reads these itself, and loads this module
only for the others. Pure.
"""

from __future__ import annotations

import re
from typing import Optional, Tuple

import h11

from flowmaestro_core.http.messages import Headers, ResponseHead
from flowmaestro_transports.http11.failures import ReplyError

_ANY_REQUEST = h11.Request(method="GET", target="/", headers=[("Host", "any")])
_QUOTE = re.compile(r":? *(bytearray\(|b['\"]).*", re.DOTALL)
"""The part of a message of h11 that quotes the peer, which may echo a secret."""
_NO_HTTP = ("", "illegal request line")
"""The messages of h11 for bytes that are not HTTP, such as those of TLS."""


_STATUS_LINE = b"HTTP/0.0 000"
"""What a status line begins with, with zeros for digits (RFC 9112, 4)."""


def _refuse_unlike_http(begun: bytes) -> None:
    """Raise `ReplyError` if no status line begins with these bytes.

    h11 looks only once the line has ended, and another protocol may never end a line.
    """
    for byte, expected in zip(begun, _STATUS_LINE):
        if byte != expected and not (chr(expected) == "0" and chr(byte) in "0123456789"):
            raise ReplyError("it is not HTTP")


class HeadReader:
    """Reads the head of a final response, and skips the informational responses before it.

    The heads of all these responses together may have at most `limit` bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._begun = b""  # the first bytes, until they are as many as `_STATUS_LINE`
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limit)
        self._http.send(_ANY_REQUEST)

    def feed(self, data: bytes) -> Optional[Tuple[bytes, ResponseHead, bytes]]:
        """Add `data` to the head. Return None if the head is not complete yet.

        Otherwise return the HTTP version, the head, and the bytes that follow the head. Raises
        `ReplyError` for a head that is malformed, too long, not HTTP/1, or changes the protocol.
        """
        if self._size < len(_STATUS_LINE):
            _refuse_unlike_http(self._begun + data[: len(_STATUS_LINE)])
            self._begun += data[: len(_STATUS_LINE)]
        self._size += len(data)
        self._http.receive_data(data)
        event, refusal = self._next_event()
        if refusal is not None:  # Raised here, without the error of h11 as its context.
            raise ReplyError(refusal)
        rest = b"" if event is None else self._http.trailing_data[0]
        if self._size - len(rest) > self._limit:
            raise ReplyError("the head of the response is too long")
        if event is None:
            return None
        if not event.http_version.startswith(b"1."):
            raise ReplyError("the response is not HTTP/1")
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in event.headers.raw_items()
        ]
        return event.http_version, ResponseHead(event.status_code, Headers(fields)), rest

    def _next_event(self) -> Tuple[Optional[h11.Response], Optional[str]]:
        """Return the final head or `None`, and the reason to refuse the response or `None`.

        Both are `None` while the head is not complete.
        """
        try:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    return event, None
                if event is h11.NEED_DATA:
                    return None, None
                if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                    return None, "the server switched to another protocol"
        except h11.RemoteProtocolError as error:
            reason = _QUOTE.sub("", str(error))
            return None, "it is not HTTP" if reason in _NO_HTTP else reason
