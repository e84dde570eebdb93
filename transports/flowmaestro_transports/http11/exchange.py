"""One HTTP/1.1 exchange from the client's side, as a machine without a socket.

Tell it what happened, and it tells what follows:

* Send what is `unsent`, and say how much of it went out: `bytes_sent`.
* Pass on what arrives: `bytes_received`, or `connection_ended`. Both raise `ReplyError` for a head
  that is none.
* Once `head` is there, `take` the body piece by piece. `take` alone raises for a broken body, and
  only after it has given what came whole.
* `phase` says at any time whether the server may have acted, and `reusable` at the end whether
  the connection may carry another exchange.

A plain head that comes in one piece is read by one regular expression, and means what h11 would
have it mean, at a tenth of the price; all others are h11's (`heads`). The framing of the body is
ours (`framing`), since h11 costs several times as much for each chunk, and so for each event of a
stream. Work and memory are bounded: heads by `MAX_HEAD`, the rest by `framing` and
`content_coding`. Pure: no I/O, no clock.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from flowmaestro_core.http.messages import Headers, Phase, Request, ResponseHead
from flowmaestro_transports.http11.content_coding import MAX_PIECE, CodingError, ContentDecoder
from flowmaestro_transports.http11.failures import ReplyError, unsendable
from flowmaestro_transports.http11.framing import Framing, framing_of

if TYPE_CHECKING:
    from flowmaestro_transports.http11.heads import HeadReader

MAX_HEAD = 100 * 1024
"""Bytes that the head of a reply may have, with all informational replies that come before."""

_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})
ANY_HOST = Headers((("Host", "any"),))
"""For a transport on another library, which writes the field itself."""
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"[!-~]+")
_VALUE = re.compile(r"(?![\t ])[\t -~]*(?<![\t ])")
"""Of a field: no space around it (RFC 9110, 5.5), nor the obsolete bytes above ASCII."""
_PLAIN_HEAD = re.compile(
    rb"HTTP/(1\.[01]) ([2-5][0-9]{2})(?: [^\0-\x08\n-\x1f\x7f]*)?\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\0-\x08\n-\x1f\x7f]*\r\n)*)\r\n"
)
"""A final head without any of what a server should not send (RFC 9112, 4 and 5)."""


class _Fields(NamedTuple):
    """The field lines of a request, and what they were made of."""

    method: str
    given: Tuple[Tuple[str, str], ...]
    length: int
    lines: bytes
    keep_alive: bool


class RequestWriter:
    """Writes the requests of one route, each with the route's own `fields` unless it has them.

    Fields that were checked for the last request are not checked again. Threads may share a writer.
    """

    __slots__ = ("_fields", "_last")

    def __init__(self, fields: Headers) -> None:
        self._fields = fields
        self._last: Optional[_Fields] = None

    def write(self, request: Request, target: str) -> Tuple[memoryview, bool]:
        """The bytes of `request` for `target` (RFC 9112, 3.2), and whether it keeps alive.

        Raises `TransportFailure` for what HTTP/1.1 cannot express.
        """
        fields = self._fields_of(request) if _TARGET.fullmatch(target) else None
        if fields is None:  # raised where no frame holds the fields
            raise unsendable() from None
        start = b"%s %s HTTP/1.1\r\n" % (request.method.encode(), target.encode())
        # A memoryview: the credentials in it are not printed with the locals of a traceback.
        return memoryview(start + fields.lines + request.body), fields.keep_alive

    def check(self, request: Request) -> None:
        """Check the method, the host and the header fields. Raises as `write` does.

        For libraries that look at them only when a request may have left.
        """
        try:
            (urlsplit(request.url).hostname or "").encode("idna")
            fields = self._fields_of(request)
        except ValueError:  # `UnicodeError` is one, and what `urlsplit` raises
            fields = None
        if fields is None:
            raise unsendable() from None

    def _fields_of(self, request: Request) -> Optional[_Fields]:
        given, method, length = request.headers, request.method, len(request.body)
        last = self._last
        if last is not None and last[:3] == (method, given.pairs, length):
            return last
        pairs = [pair for pair in self._fields.pairs if pair[0] not in given]
        pairs += given.pairs
        if (length or method in _BODY_EXPECTED) and "content-length" not in given:
            pairs.append(("Content-Length", str(length)))
        names = [name.lower() for name, _ in pairs]
        if (
            # As given: `lower` makes a K of ASCII out of the sign for kelvin.
            not all(map(_TOKEN.fullmatch, [method, *(name for name, _ in pairs)]))
            or not all(_VALUE.fullmatch(value) for _, value in pairs)
            or names.count("host") != 1
            or "transfer-encoding" in names  # which would have to be done here
            or given.get("content-length", str(length)) != str(length)
        ):
            return None
        lines = "".join([f"{name}: {value}\r\n" for name, value in pairs]) + "\r\n"
        keep_alive = not _says_close(given)
        last = self._last = _Fields(method, given.pairs, length, lines.encode(), keep_alive)
        return last


class Exchange:
    """One request and its reply. `limit` is the most bytes that the body may have, inflated.

    Raises `TransportFailure` for a request that HTTP/1.1 cannot express.
    """

    __slots__ = (
        *("_coding", "_content", "_error", "_framing", "_keep_alive", "_limit", "_method"),
        *("_reader", "head", "phase", "unsent"),
    )

    _coding: ContentDecoder  # both are there once the head is
    _framing: Framing

    def __init__(
        self, writer: RequestWriter, request: Request, target: str, limit: int = sys.maxsize
    ) -> None:
        self.unsent, self._keep_alive = writer.write(request, target)
        """What is still to be sent."""
        self.phase = Phase.NOT_SENT
        """How far it has come, should it fail now."""
        self.head: Optional[ResponseHead] = None
        """The head of the final reply, once it is whole, less a content coding that is undone."""
        self._method = request.method
        self._limit = limit
        self._reader: Optional[HeadReader] = None  # of a head that is not plain
        self._content = b""
        self._error: Optional[str] = None

    @property
    def final_head(self) -> ResponseHead:
        """`head`, once it is there."""
        if self.head is None:
            raise RuntimeError("the head of the reply has not come yet")
        return self.head

    @property
    def finished(self) -> bool:
        """Whether the body has come to its end; some of it may still have to be taken."""
        return self.head is not None and self._framing.finished

    @property
    def has_more(self) -> bool:
        """Whether `take` has more of the body to return before anything else is received.

        Only once there is a `head`. A reader then lets others run and checks its deadline first.
        """
        return bool(self._content) or self._coding.pending

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another exchange now (RFC 9112, 9.3)."""
        clean = self.finished and self._error is None and not self._framing.rest
        return clean and self._keep_alive and not self.unsent

    def bytes_sent(self, count: int) -> None:
        """The first `count` bytes of what was `unsent` may have gone out."""
        if self.phase is Phase.NOT_SENT:
            self.phase = Phase.MAYBE_PROCESSED
        self.unsent = self.unsent[count:]

    def bytes_received(self, data: bytes) -> None:
        """These bytes came: look at `head`, then `take` what there is of the body."""
        self.phase = Phase.REPLY_BROKEN
        if self.head is None:
            data = self._read_head(data)
        if data and self._error is None:
            self._decode(self._framing.feed(data))

    def connection_ended(self, broken: str = "") -> None:
        """The peer sends no more: that is the end of the body, or breaks the reply.

        `broken` says why, if the connection did not end as it should.
        """
        self._keep_alive = False
        if self.head is None:
            raise ReplyError(broken or "the server closed the connection before its reply")
        if not self.finished and self._error is None:
            if broken:
                self._error = broken
                return
            self._framing.connection_ended()
            self._decode(b"")

    def take(self) -> Optional[bytes]:
        """Return the body bytes received so far, at most `MAX_PIECE` of them.

        Return `b""` at the end of the body, and None if more must be received first. Raises
        `ReplyError` if the body is broken, after it has returned all bytes before the fault.
        """
        if not self._content and self._coding.pending:
            self._decode(b"")
        content = self._content
        if content:
            self._content = content[MAX_PIECE:]
            return content[:MAX_PIECE]
        if self._error is not None:
            raise ReplyError(self._error)
        return b"" if self.finished else None

    def _decode(self, data: bytes) -> None:
        framing = self._framing
        try:
            self._content += self._coding.feed(data)
            if framing.finished and not self._coding.pending:
                self._coding.finish()
        except CodingError as error:
            self._error = str(error)
            return
        self._error = self._error or framing.error

    def _read_head(self, data: bytes) -> bytes:
        """Takes `data` as a part of the head; what there is of it behind the head."""
        if self._reader is None:
            plain = _PLAIN_HEAD.match(data, 0, MAX_HEAD)
            if plain is not None:
                version, status, lines = plain.groups()
                headers = _plain_fields(lines)
                if headers is not None:
                    self._begin_body(ResponseHead(int(status), headers), version)
                    return data[plain.end() :]
            from flowmaestro_transports.http11.heads import HeadReader

            self._reader = HeadReader(MAX_HEAD)
        whole = self._reader.feed(data)
        if whole is None:
            return b""
        version, head, rest = whole
        self._begin_body(head, version)
        self._reader = None
        return rest

    def _begin_body(self, head: ResponseHead, version: bytes) -> None:
        headers = head.headers
        if version < b"1.1" or _says_close(headers):
            self._keep_alive = False
        self._framing = framing_of(self._method, head)
        self._coding = coding = ContentDecoder(headers, self._limit)
        self.head = head if coding.headers is headers else ResponseHead(head.status, coding.headers)


def _plain_fields(lines: bytes) -> Optional[Headers]:
    """The header fields; `None` where h11 changes or refuses what says how the body ends."""
    parts = [line.partition(":") for line in lines.decode("latin-1").split("\r\n")[:-1]]
    headers = Headers(tuple([(name, value.strip(" \t")) for name, _, value in parts]))
    coded = headers.get("transfer-encoding", "chunked") != "chunked"
    length = headers.get("content-length", "0")
    counted = length.isascii() and length.isdigit() and len(length) <= 20
    return None if coded or not counted else headers


def _says_close(headers: Headers) -> bool:
    options = headers.get("connection")
    return options is not None and "close" in re.split(r"[ \t]*,[ \t]*", options.strip().lower())
