"""One HTTP/1.1 exchange from the client's side, as a machine without a socket.

Report to it what happened, and read from it what to do next:

* Send `unsent`, and report how many bytes were sent: `bytes_sent`.
* Report what arrives: `bytes_received`, or `connection_ended`. The first raises `ReplyError` for a
  head that is refused, the second for one that is not complete.
* Once `head` is set, call `take` to get the body piece by piece. Only `take` raises for a body that
  is malformed, truncated or too long, and only after it has returned what was decoded before.
* `phase` tells at any time whether the server may have acted. `reusable` tells at the end whether
  the connection may carry another exchange.

A plain head that arrives in one piece is read by one regular expression, with the same result as by
h11, in a tenth of the time. All other heads are read by h11 (`heads`). The framing of the body is
our own (`framing`), because h11 takes several times as long for each chunk, and so for each event
of a stream. Work and memory are bounded: heads by `MAX_HEAD`, bodies by `framing` and
`content_coding`. Pure: no I/O, no clock.
"""

from __future__ import annotations

import re
import sys
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from flowmaestro_core.http.messages import Headers, Phase, Request, ResponseHead
from flowmaestro_core.http.urls import can_be_host
from flowmaestro_transports.http11.content_coding import MAX_PIECE, CodingError, ContentDecoder
from flowmaestro_transports.http11.failures import ReplyError, unsendable
from flowmaestro_transports.http11.framing import Framing, framing_of
from flowmaestro_transports.http11.hosts import ascii_host

if TYPE_CHECKING:
    from flowmaestro_transports.http11.heads import HeadReader

MAX_HEAD = 100 * 1024
"""The most bytes of a head, including all informational responses before it. curl allows as much
for one field; servers allow 8 to 64 KiB for the head of a request."""

_BODY_EXPECTED = frozenset({"POST", "PUT", "PATCH"})
ANY_HOST = Headers((("Host", "any"),))
"""The fields of a `RequestWriter` that only checks requests, because requests or aiohttp writes
them, with the real Host field."""
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"[!-~]+")
_VALUE = re.compile(r"(?![\t ])[\t -~]*(?<![\t ])")
"""The value of a field: no space around it (RFC 9110, 5.5), no obsolete bytes above ASCII."""
_PLAIN_HEAD = re.compile(
    rb"HTTP/(1\.[01]) ([2-5][0-9]{2})(?: [^\0-\x08\n-\x1f\x7f]*)?\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\0-\x08\n-\x1f\x7f]*\r\n)*)\r\n"
)
"""A final head that contains nothing that a server should not send (RFC 9112, 4 and 5)."""


class _Fields(NamedTuple):
    """The encoded field lines of a request, and what they were made from."""

    method: str
    given: Tuple[Tuple[str, str], ...]
    length: int
    lines: bytes
    keep_alive: bool


class RequestWriter:
    """Writes the requests of one route. Adds the route's header fields (`fields`).

    Also adds `Content-Length`, if there is a body or the method is POST, PUT or PATCH. A field that
    a request has already is not added.

    If a request has the same method, fields and length of its body as the previous one, the fields
    are not checked again. Threads may share a writer.
    """

    __slots__ = ("_fields", "_last")

    def __init__(self, fields: Headers) -> None:
        self._fields = fields
        self._last: Optional[_Fields] = None

    def write(self, request: Request, target: str) -> Tuple[memoryview, bool]:
        """Return the bytes of `request` for `target` (RFC 9112, 3.2).

        Also return whether the request lets the connection be reused. Raises `TransportFailure` if
        HTTP/1.1 cannot express the request.
        """
        fields = self._fields_of(request) if _TARGET.fullmatch(target) else None
        if fields is None:  # Raised here, where no frame holds the fields, which may be secret.
            raise unsendable() from None
        start = b"%s %s HTTP/1.1\r\n" % (request.method.encode(), target.encode())
        # A memoryview: the credentials in it are not printed with the locals of a traceback.
        return memoryview(start + fields.lines + request.body), fields.keep_alive

    def check(self, request: Request) -> None:
        """Check the method, the host and the header fields.

        Raises `TransportFailure` if HTTP/1.1 cannot express the request. This is for HTTP libraries
        that check these only after part of the request may have been sent.
        """
        try:
            host = urlsplit(request.url).hostname or ""
            valid = ":" in host or can_be_host(ascii_host(host))
            fields = self._fields_of(request) if valid else None
        except ValueError:  # from `urlsplit`
            fields = None
        if fields is None:
            raise unsendable() from None

    def _fields_of(self, request: Request) -> Optional[_Fields]:
        """Return the field lines of `request`, or None if HTTP/1.1 forbids its method or a field.

        The target is not checked.
        """
        given, method, length = request.headers, request.method, len(request.body)
        last = self._last
        if (
            last is not None
            and last.given == given.pairs
            and last.length == length
            and last.method == method
        ):
            return last
        pairs = [pair for pair in self._fields.pairs if pair[0] not in given]
        pairs += given.pairs
        if (length or method in _BODY_EXPECTED) and "content-length" not in given:
            pairs.append(("Content-Length", str(length)))
        names = [name.lower() for name, _ in pairs]
        if (
            # The names as given: `lower` turns the Kelvin sign into an ASCII k.
            not all(map(_TOKEN.fullmatch, [method, *(name for name, _ in pairs)]))
            or not all(_VALUE.fullmatch(value) for _, value in pairs)
            or names.count("host") != 1
            or "transfer-encoding" in names  # The body is not encoded here.
            or given.get("content-length", str(length)) != str(length)
        ):
            return None
        lines = "".join([f"{name}: {value}\r\n" for name, value in pairs]) + "\r\n"
        keep_alive = not _says_close(given)
        last = self._last = _Fields(method, given.pairs, length, lines.encode(), keep_alive)
        return last


class ExchangeState(Enum):
    """The part of the response of an `Exchange` that has been received.

    | state | event | next state |
    |---|---|---|
    | `HEAD` | `bytes_received`, the final head is not complete | `HEAD` |
    | `HEAD` | `bytes_received`, the final head is complete | `BODY`; `COMPLETE` without a body |
    | `HEAD` | `bytes_received`, the head is refused | `HEAD`; raises `ReplyError` |
    | `HEAD` | `connection_ended` | `HEAD`; raises `ReplyError` |
    | `BODY` | `bytes_received` | `BODY`, `COMPLETE` at the end, `BROKEN` at a fault |
    | `BODY` | `connection_ended` | `COMPLETE` if that ends the body, else `BROKEN` |
    | `COMPLETE`, `BROKEN` | any | stays; the connection is then unfit for reuse |

    Bytes that follow the head are then received in the new state. Decompression, also in `take`,
    may lead from `BODY` or `COMPLETE` to `BROKEN`.
    Sending is independent of these states: a server may respond before it has read the whole
    request. `unsent` is the part of the request that was not sent.
    """

    HEAD = 1
    """The final head is not complete. Until then there is no `head`, and no body to take."""
    BODY = 2
    """The head is complete, the body is not."""
    COMPLETE = 3
    """All of the body has been received. Part of it may still have to be taken."""
    BROKEN = 4
    """The body is malformed, truncated, too long or in an unknown coding. What was decoded before
    can be taken."""


class Exchange:
    """One request and its response. See `ExchangeState`.

    `limit` is the most bytes that the body may have, decompressed; the caller itself observes the
    `max_reply_size` of a request. Raises `TransportFailure` for a request that HTTP/1.1 cannot
    express.
    """

    __slots__ = (
        "_content",
        "_decoder",
        "_error",
        "_framing",
        "_keep_alive",
        "_limit",
        "_method",
        "_reader",
        "head",
        "max_reply_size",
        "phase",
        "state",
        "unsent",
    )

    # It exists from the state BODY on.
    _framing: Framing  # finds the content in what is received, and the end of the body

    def __init__(
        self, writer: RequestWriter, request: Request, target: str, limit: int = sys.maxsize
    ) -> None:
        self.unsent: memoryview
        self.unsent, self._keep_alive = writer.write(request, target)
        """The bytes of the request that have not been sent."""
        self.phase: Phase = Phase.NOT_SENT
        """The phase of the failure if the exchange failed at this moment."""
        self.state: ExchangeState = ExchangeState.HEAD
        """How far the response has been received."""
        self.head: Optional[ResponseHead] = None
        """The head of the final response, once complete. `Content-Encoding` is removed if we decode
        it."""
        self._method = request.method  # A response to HEAD or CONNECT has no body.
        bound = request.max_reply_size
        self._limit = limit if bound is None else sys.maxsize  # bytes
        self.max_reply_size: int = sys.maxsize if bound is None else bound
        """The most bytes of the body that the caller can use, decompressed."""
        self._reader: Optional[HeadReader] = None  # of a head that is not plain
        # Decompresses or counts the content. Mostly there is no coding, and the caller counts.
        self._decoder: Optional[ContentDecoder] = None
        self._content = b""  # received and decoded, not taken yet
        self._error = ""  # why the state is BROKEN

    @property
    def finished(self) -> bool:
        """Whether nothing more of the response must be received, because it is whole or broken."""
        return self.state in (ExchangeState.COMPLETE, ExchangeState.BROKEN)

    @property
    def has_more(self) -> bool:
        """Whether `take` may have more of the body to return before anything else is received.

        Read it only once `head` is set. If it is True, a reader lets other tasks run and checks its
        deadline before it calls `take`.
        """
        return bool(self._content) or (self._decoder is not None and self._decoder.pending)

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another exchange now (RFC 9112, 9.3)."""
        clean = self.state is ExchangeState.COMPLETE and not self._framing.rest
        return clean and self._keep_alive and not self.unsent

    def bytes_sent(self, count: int) -> None:
        """Report that the first `count` bytes of `unsent` may have been sent."""
        if self.phase is Phase.NOT_SENT:
            self.phase = Phase.MAYBE_PROCESSED
        self.unsent = self.unsent[count:]

    def bytes_received(self, data: bytes) -> None:
        """Process bytes that were received. Afterwards, check `head`, and call `take` for the body.

        Raises `ReplyError` for a head that is malformed, too long or not supported.
        """
        self.phase = Phase.REPLY_BROKEN
        if self.state is ExchangeState.HEAD:
            data = self._read_head(data)
        if data and self.state is not ExchangeState.BROKEN:
            self._decode(self._framing.feed(data))

    def connection_ended(self, failure: Optional[OSError] = None) -> None:
        """Process the end of the connection, which may complete the body or truncate it.

        `failure` is why the connection did not end cleanly, or `None` if it did. Raises
        `ReplyError` if the head is not complete.
        """
        self._keep_alive = False
        reason = "" if failure is None else str(failure) or type(failure).__name__
        if self.state is ExchangeState.HEAD:
            raise ReplyError(reason or "the server closed the connection before its response")
        if self.state is ExchangeState.BODY:
            if reason:
                self._break(reason)
                return
            self._framing.connection_ended()
            self._decode(b"")

    def take(self) -> Optional[bytes]:
        """Return the next decoded bytes of the body, at most `MAX_PIECE` of them.

        Return `b""` at the end of the body, and None if more must be received first. If the body is
        broken, return first what was decoded before the fault, then raise `ReplyError`.
        """
        if not self._content and self._decoder is not None and self._decoder.pending:
            self._decode(b"")
        content = self._content
        if content:
            self._content = content[MAX_PIECE:]
            return content[:MAX_PIECE]
        if self.state is ExchangeState.BROKEN:
            raise ReplyError(self._error)
        return b"" if self.state is ExchangeState.COMPLETE else None

    def _decode(self, data: bytes) -> None:
        """Decode `data`, content without framing, and append it to the content to return.

        Enters the state `COMPLETE` at the end of the body, and `BROKEN` at a fault.
        """
        framing, decoder = self._framing, self._decoder
        if decoder is None:
            self._content += data
        else:
            try:
                self._content += decoder.feed(data)
                if framing.finished and not decoder.pending:
                    decoder.finish()
            except CodingError as error:
                self._break(str(error))
                return
        if self.state is ExchangeState.BODY:
            if framing.error is not None:
                self._break(framing.error)
            elif framing.finished:
                self.state = ExchangeState.COMPLETE

    def _break(self, error: str) -> None:
        self.state = ExchangeState.BROKEN
        self._error = self._error or error

    def _read_head(self, data: bytes) -> bytes:
        """Parse `data`, the next part of the head.

        Return the bytes that follow the head, which begin the body; `b""` if the head is not
        complete. Raises `ReplyError` for a head that is refused.
        """
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
        """Enter the state `BODY`, or `COMPLETE` if there is no body.

        Raises `ReplyError` if `framing_of` does.
        """
        headers = head.headers
        fields = headers.by_name()
        if version < b"1.1" or ("connection" in fields and _says_close(headers)):
            self._keep_alive = False
        self._framing = framing_of(self._method, head)
        if "content-encoding" in fields or self._limit != sys.maxsize:
            self._decoder = decoder = ContentDecoder(headers, self._limit)
            if decoder.headers is not headers:
                head = ResponseHead(head.status, decoder.headers)
        self.head = head
        finished = self._framing.finished  # as without content
        self.state = ExchangeState.COMPLETE if finished else ExchangeState.BODY


def _plain_fields(lines: bytes) -> Optional[Headers]:
    """Parse field lines. Return None if h11 must parse them.

    h11 must parse a `Content-Length` or `Transfer-Encoding` that h11 may refuse or change.
    """
    parts = [line.partition(":") for line in lines.decode("latin-1").split("\r\n")[:-1]]
    headers = Headers(tuple([(name, value.strip(" \t")) for name, _, value in parts]))
    fields = headers.by_name()
    coded = fields.get("transfer-encoding", "chunked") != "chunked"
    length = fields.get("content-length", "0")
    # h11 refuses a longer number.
    counted = length.isascii() and length.isdigit() and len(length) <= 20
    return None if coded or not counted else headers


def _says_close(headers: Headers) -> bool:
    """Return whether the `Connection` field has the option `close`."""
    options = headers.get("connection")
    return options is not None and "close" in re.split(r"[ \t]*,[ \t]*", options.strip().lower())
