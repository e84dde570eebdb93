"""The requests that the inspector shows: the last 10,000, with at most 64 MiB of their bodies.

A URL of more than 4 KiB counts as a part of the body. So do header fields if those of one message
have more than 4 KiB.

It also finds out which requests belong together: the attempts of one call, and the requests about
one execution. Pure: the caller says what time it is.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from functools import cached_property
from hashlib import sha256
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Set,
    Tuple,
)
from urllib.parse import parse_qsl, urlsplit

from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.fake.model.requests import (
    SHORT_SIZE,
    limited_size,
    path_below_root,
    size_of_long,
)
from flowmaestro.testing.fake.server.curl import API_KEY, curl_lines
from flowmaestro.testing.redaction import redacted_text, secrets_of, shown_url
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_core.http.secrets import showable_value, without_keys

MAX_EXCHANGES = 10_000
"""The most requests that are stored, the last ones: those of a batch of some thousand rows."""
MAX_BODY_BYTES = 1024 * 1024
"""The most bytes that are stored of the body of one request, and of one response. No request that
the fake accepts has more."""
MAX_KEPT_BYTES = 64 * 1024 * 1024
"""The most bytes that are stored of all bodies, long URLs and long header fields.

Those stored first are dropped first.
"""
MAX_SEARCHED = 1024 * 1024
"""A search ends once it has redacted so many bytes. To redact them takes 0.3 s."""
RETRY_SECONDS = 120.0
"""Seconds after a failure within which an equal request counts as its retry: twice the longest
delay that the SDK waits because the server asks for it."""

_EXECUTION = re.compile(r"/executions/([^/]+)(?:/(cancel|events))?")
_START = re.compile(r"/(?:workflows|triggers)/[^/]+/execute")
_TERMINAL = re.compile(
    rb"^event: (?:execution:(?:completed|failed|cancelled)|message:(?:completed|failed))$",
    re.MULTILINE,
)
"""The events after which a client leaves a stream that it has read to its end."""
_LOOPBACK_HOST = re.compile(
    r"(?:(?:[a-z\d-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?",
    re.IGNORECASE | re.ASCII,
)
_CONNECTION_FIELDS = ("host", "content-length", "connection", "transfer-encoding", "expect")
"""Fields that curl and the SDK write themselves."""
_NOT_WHOLE = "# only a part of this request is kept, so it cannot be copied"
"""Stands for the command and the program, in both of which it is a comment."""


_Candidate = Tuple[int, bytes, Headers]
"""The number of a request, both bodies, and the header fields that were sent."""


class InspectedRequest:
    """One request and its outcome."""

    def __init__(self, number: int, request: Request, at: float) -> None:
        self.number = number
        self.request = request
        """The request with its credentials, which `summary` and `details` redact. Its body is
        truncated to `MAX_BODY_BYTES`, and empty once it was dropped."""
        self.at = at
        """Unix time, in seconds."""
        self.status: Optional[int] = None
        """The HTTP status; `None` before the response, or if the connection was dropped."""
        self.headers: Headers = Headers()
        self.seconds: Optional[float] = None
        """Seconds until the response, the drop, or the client's leaving; `None` before.

        For an event stream, this is the time to its head; after its end, the time it was open.
        """
        self.body: bytearray = bytearray()
        self.size = 0
        """Bytes of the response body that were sent."""
        self.streams = False
        self.events = 0
        """How many events an event stream has sent."""
        self.event_seconds: List[float] = []
        """When each event was sent, in seconds after `at`, until the stored body was full.

        Empty once the body was dropped."""
        self.has_terminal_event = False
        self.ended: Optional[str] = None
        """How an event stream ended: `complete`, `cut` by a fault, or `left` by the client. `None`
        while it is open. For other responses, `left` if the client left before, else `None`."""
        self.code: Optional[str] = None
        """The code of an error response, or its `error` if that is a text.

        `None` if it has neither, and for other responses.
        """
        self.hint: str = ""
        """What the server knows about a refusal, and does not tell the client; `""` for nothing."""
        self.execution_id: Optional[str] = None
        self.retry_of: Optional[int] = None
        """The number of the first attempt of the same call; `None` if this request is that one."""
        self.sent_again: Optional[int] = None
        """The number of the request that a user sent again as this one; `None` if none was."""
        self.fault: Optional[str] = None
        """The fault that was injected into it, if any."""
        self.body_dropped = False
        """Whether the bodies and long header fields of request and response were dropped, and a
        long URL was truncated, to make room for newer ones."""
        self.request_truncated = False
        """Whether only a part of the request is stored: the beginning of its body, or what was left
        when its body, the end of its URL or its long header fields were dropped."""

    @cached_property
    def path(self) -> str:
        """The path and query of the URL, redacted."""
        shown = urlsplit(shown_url(self.request.url, secrets_of(self.request.headers)))
        return shown.path + (f"?{shown.query}" if shown.query else "")

    @cached_property
    def kind(self) -> bytes:
        """A digest of method, URL and body, which is equal for all attempts of one call."""
        digest = sha256(f"{self.request.method} {self.request.url}\n".encode())
        digest.update(self.request.body)
        return digest.digest()

    @cached_property
    def is_poll(self) -> bool:
        """Whether the request reads the state of one execution."""
        found = _EXECUTION.fullmatch(path_below_root(self.request.url))
        return self.request.method == "GET" and found is not None and found[2] is None

    @property
    def failed(self) -> bool:
        """Whether a client would treat the outcome as a failure."""
        dropped = self.status is None and self.seconds is not None
        return dropped or (self.status or 0) >= 400 or self.ended == "cut"

    def summary(self) -> Dict[str, Any]:
        """Return the entry of this request in the list of requests, as JSON values."""
        return {
            "kind": "request",
            "id": self.number,
            "at": round(self.at, 3),
            "method": self.request.method,
            "path": self.path,
            "status": self.status,
            "ms": None if self.seconds is None else round(self.seconds * 1000, 1),
            "size": self.size,
            "streams": self.streams,
            "events": self.events,
            "ended": self.ended,
            "code": self.code,
            "execution": self.execution_id,
            "poll": self.is_poll,
            "retry_of": self.retry_of,
            "sent_again": self.sent_again,
            "fault": self.fault,
        }

    def line(self) -> str:
        """Return the line of this request in an access log."""
        status = self.status or ("left by the client" if self.ended else "dropped")
        how = "opened" if self.streams else f"{(self.seconds or 0) * 1000:.0f} ms"
        return f"{self.request.method} {self.path} {status} {how}"

    def details(self) -> Dict[str, Any]:
        """Return every detail of the exchange, with credentials redacted."""
        sent = shown_body(self.request.body, self.request.headers)
        return {
            **self.summary(),
            "request_headers": shown_headers(self.request.headers),
            "request_body": sent,
            "headers": shown_headers(self.headers),
            "body": shown_body(bytes(self.body), self.request.headers),
            "hint": self.hint,
            "event_ms": [round(seconds * 1000, 1) for seconds in self.event_seconds],
            "body_dropped": self.body_dropped,
            "request_truncated": not self.body_dropped and self.request_truncated,
            "body_truncated": not self.body_dropped and len(self.body) < self.size,
            "curl": self._curl(sent),
            "python": self._python(sent),
        }

    def _curl(self, body: str) -> str:
        """Return a curl command that sends the request, with the key from the environment.

        Other credentials are redacted in it, and in `body`. Return a comment if the request is not
        stored whole.
        """
        if self.request_truncated:
            return _NOT_WHOLE
        pairs: List[Tuple[str, str]] = []
        for name, value in self.request.headers.pairs:
            if name.lower() == "x-api-key":
                pairs.append(("X-API-Key", API_KEY))
            elif name.lower() == "authorization":
                pairs.append(("Authorization", f"Bearer {API_KEY}"))
            elif name.lower() not in _CONNECTION_FIELDS:
                pairs.append((name, showable_value(name, value)))
        url = f"{self._server()}{self.path}"
        request = Request(self.request.method, url, Headers(pairs), body.encode())
        return " \\\n  ".join(curl_lines(request))

    def _server(self) -> str:
        """Return the URL of the server, made of the request's `Host`.

        It is `http://localhost` unless `Host` is a loopback name or address, so that the key is
        not sent to another machine.
        """
        host = self.request.headers.get("host") or ""
        return f"http://{host if _LOOPBACK_HOST.fullmatch(host) else 'localhost'}"

    def _python(self, body: str) -> str:
        """Return a program that sends the request with the SDK. Its key is from the environment.

        Other credentials are redacted in it, and in `body`. Return a comment if the request is not
        stored whole, and if its body is not JSON.
        """
        if self.request_truncated:
            return _NOT_WHOLE
        target = urlsplit(self.path)
        below = path_below_root(f"http://localhost{self.path}")
        arguments = [repr(self.request.method), repr(below)]
        if target.query:
            arguments.append(f"params={dict(parse_qsl(target.query))!r}")
        if body:
            try:
                arguments.append(f"json={json.loads(body)!r}")
            except (ValueError, RecursionError):
                return "# the SDK sends JSON only; use curl for this body"
        return (
            "import os\n\n"
            "from flowmaestro import FlowMaestroClient\n\n"
            'key = os.environ["FLOWMAESTRO_API_KEY"]\n'
            f"with FlowMaestroClient(key, base_url={self._server()!r}) as client:\n"
            f"    reply = client.request({', '.join(arguments)})\n"
            "    print(reply)\n"
        )


class Exchanges:
    """The last `MAX_EXCHANGES` requests, by number, the oldest first.

    A request has the id of its execution, if it is about one, and if it is a retry, the number of
    the call's first attempt.
    """

    def __init__(self) -> None:
        self.kept_bytes: int = 0
        self._by_number: OrderedDict[int, InspectedRequest] = OrderedDict()
        self._with_bodies: OrderedDict[int, int] = OrderedDict()
        """How many bytes of bodies, long URLs and long header fields each request has, if any.

        They are in the order in which their first bytes were stored.
        """
        self._count = 0
        self._first_attempts: OrderedDict[str, int] = OrderedDict()
        """The number of the first request with each of the last `Idempotency-Key`s."""
        self._failures: OrderedDict[bytes, Tuple[int, float]] = OrderedDict()
        """The last failure of each kind of request, until such a request succeeds.

        It is the number of the call's first attempt, and the Unix time until which a request counts
        as a retry.
        """

    def __iter__(self) -> Iterator[InspectedRequest]:
        return iter(self._by_number.values())

    def find(self, number: int) -> Optional[InspectedRequest]:
        """Return the request with this number; `None` if there is none, or none any more."""
        return self._by_number.get(number)

    def of_execution(self, execution_id: str) -> List[InspectedRequest]:
        """Return the requests about one execution, the oldest first."""
        return [each for each in self if each.execution_id == execution_id]

    def search(self, text: str) -> Callable[[], Tuple[List[int], Optional[int]]]:
        """Return a function that searches, which may be called in another thread.

        It returns the numbers of requests with `text` in a body, and where the search ended early.
        The last request comes first, by the time when the first bytes of its bodies were stored.
        Both bodies of an exchange are searched, as they are shown: redacted. Bodies that were
        dropped are not searched. Case does not matter.

        The search redacts only exchanges that contain `text`. It ends once it has redacted
        `MAX_SEARCHED` bytes. Then the second value is the number of the last request that was
        searched; requests that follow it in this order may be missing. Otherwise it is `None`.
        """
        # A body may hold the text as JSON writes it (RFC 8259, 7).
        forms = {text.lower(), json.dumps(text.lower())[1:-1]}
        stored = [self._by_number[number] for number in reversed(self._with_bodies)]

        def search() -> Tuple[List[int], Optional[int]]:
            candidates: List[_Candidate] = []
            back_to: Optional[int] = None
            left = MAX_SEARCHED
            for each in stored:
                data = b"%s\n%s" % (each.request.body, each.body)
                if _may_have(data, forms):
                    candidates.append((each.number, data, each.request.headers))
                    left -= len(data)
                if left <= 0:
                    back_to = each.number
                    break
            return _found_among(candidates, forms), back_to

        return search

    def add(self, request: Request, at: float) -> InspectedRequest:
        """Store a request that arrived at `at`, in Unix seconds. Return it with its number.

        Its body is truncated to `MAX_BODY_BYTES`.
        """
        self._count += 1
        body = request.body[:MAX_BODY_BYTES]
        stored = Request(request.method, request.url, request.headers, body)
        exchange = self._by_number[self._count] = InspectedRequest(self._count, stored, at)
        exchange.request_truncated = len(body) < len(request.body)
        found = _EXECUTION.fullmatch(path_below_root(request.url))
        exchange.execution_id = None if found is None else without_keys(found[1])[:80]
        exchange.retry_of = self._find_first_attempt(exchange)
        self._keep(exchange, limited_size(stored))
        if len(self._by_number) > MAX_EXCHANGES:
            number, _ = self._by_number.popitem(last=False)
            self.kept_bytes -= self._with_bodies.pop(number, 0)
        return exchange

    def responded(self, exchange: InspectedRequest, reply: FakeReply, seconds: float) -> None:
        """Record a response, the head of an event stream, or a dropped connection.

        `seconds` is the time from the request until then. Of a response that comes after the client
        has left, record only which execution was started.
        """
        if exchange.ended == "left":
            self._read(exchange, reply.lost or reply.body)
            return
        exchange.status = reply.status or None
        headers = _without_long(reply.headers) if exchange.body_dropped else reply.headers
        exchange.headers = headers
        exchange.seconds = seconds
        exchange.streams = reply.stream is not None
        self._keep(exchange, size_of_long(headers))
        self.received(exchange, reply.body, seconds)
        self._read(exchange, reply.lost or bytes(exchange.body))
        self._note_outcome(exchange)

    def left(self, exchange: InspectedRequest, seconds: float) -> None:
        """Record that the client left after `seconds`, before the response."""
        exchange.ended = "left"
        exchange.seconds = seconds
        self._note_outcome(exchange)

    def received(self, exchange: InspectedRequest, data: bytes, seconds: float) -> None:
        """Record bytes of a response body that were sent `seconds` after the request came."""
        exchange.size += len(data)
        if exchange.streams:
            events = data.count(b"\ndata: ") + data.startswith(b"data: ")
            exchange.events += events
            exchange.has_terminal_event |= _TERMINAL.search(data) is not None
            if len(exchange.body) < MAX_BODY_BYTES and not exchange.body_dropped:
                exchange.event_seconds += [seconds] * events
        if not exchange.body_dropped:
            kept = data[: MAX_BODY_BYTES - len(exchange.body)]
            exchange.body += kept
            self._keep(exchange, len(kept))

    def stream_ended(self, exchange: InspectedRequest, how: str, seconds: float) -> None:
        """Record that an event stream was open for `seconds`, and how it ended.

        `how` is `complete`, `cut` by a fault, or `left` by the client. A client leaves after the
        terminal event: such a stream counts as complete.
        """
        exchange.ended = "complete" if how == "left" and exchange.has_terminal_event else how
        exchange.seconds = seconds
        self._note_outcome(exchange)

    def _keep(self, exchange: InspectedRequest, size: int) -> None:
        """Count `size` more bytes of bodies, long URLs and long header fields of `exchange`.

        If all of these bytes together exceed `MAX_KEPT_BYTES`, drop those that were stored first.
        Do nothing for an exchange that is not stored any more.
        """
        if not size or exchange.number not in self._by_number:
            return
        self._with_bodies[exchange.number] = self._with_bodies.get(exchange.number, 0) + size
        self.kept_bytes += size
        while self.kept_bytes > MAX_KEPT_BYTES and len(self._with_bodies) > 1:
            number, freed = self._with_bodies.popitem(last=False)
            self.kept_bytes -= freed
            dropped = self._by_number[number]
            request = dropped.request
            # The path is redacted first: a secret could not be recognised once it is truncated.
            dropped.path = dropped.path[:SHORT_SIZE]
            url = request.url[:SHORT_SIZE]
            dropped.request = Request(request.method, url, _without_long(request.headers))
            dropped.headers = _without_long(dropped.headers)
            dropped.body.clear()
            dropped.event_seconds.clear()
            dropped.body_dropped = True
            dropped.request_truncated |= dropped.request != request

    def _find_first_attempt(self, exchange: InspectedRequest) -> Optional[int]:
        """Return the number of the call's first attempt if this request is a retry, else `None`.

        Attempts of one call have the same `Idempotency-Key`. A request without this header is a
        retry if `X-FlowMaestro-Attempt` says so, and an equal request failed at most
        `RETRY_SECONDS` before, or still has no outcome.
        """
        key = exchange.request.headers.get("idempotency-key")
        if key is not None:
            first = self._first_attempts.setdefault(key[:SHORT_SIZE], exchange.number)
            _trim(self._first_attempts)
            return first if first != exchange.number else None
        if "x-flowmaestro-attempt" not in exchange.request.headers:
            return None
        failure = self._failures.get(exchange.kind)
        if failure is not None and exchange.at <= failure[1]:
            return failure[0]
        # The client knows before the server that an attempt has timed out.
        for each in reversed(self._by_number.values()):
            if each.seconds is None and each is not exchange and each.kind == exchange.kind:
                return each.retry_of or each.number
        return None

    def _note_outcome(self, exchange: InspectedRequest) -> None:
        kind = exchange.kind
        if exchange.failed:
            until = exchange.at + RETRY_SECONDS + (exchange.seconds or 0)
            self._failures[kind] = exchange.retry_of or exchange.number, until
            self._failures.move_to_end(kind)
            _trim(self._failures)
        elif not exchange.streams or exchange.ended == "complete":
            self._failures.pop(kind, None)

    def _read(self, exchange: InspectedRequest, body: bytes) -> None:
        """Set the id of the started execution, or the code of the error, if the body has it.

        `body` is that of the response, also if the response was lost.
        """
        status = exchange.status or 0
        starts = _START.fullmatch(path_below_root(exchange.request.url)) is not None
        if exchange.streams or not (status >= 400 or (starts and status in (0, 202))):
            return
        try:
            reply: Any = json.loads(body)
            if status >= 400:
                error: Any = reply["error"]
                nested = isinstance(error, dict)
                exchange.code = without_keys(str(reply["error"]["code"] if nested else error))[:80]
            else:
                exchange.execution_id = str(reply["data"]["execution_id"])[:80]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return


def _found_among(candidates: List[_Candidate], forms: Set[str]) -> List[int]:
    """Return the numbers of the candidates that have a form of the text where they are shown.

    Only what is shown may be found: a search must not tell a secret by its letters.
    """
    return [number for number, data, sent in candidates if _has_any(shown_body(data, sent), forms)]


def shown_headers(headers: Headers) -> List[List[str]]:
    """Return the header fields with `***` for credentials."""
    return [[name, showable_value(name, value)] for name, value in headers.pairs]


def _without_long(headers: Headers) -> Headers:
    return Headers() if size_of_long(headers) else headers


def shown_body(data: bytes, sent: Headers) -> str:
    """Return a body as text, redacted.

    The secrets in `sent`, the header fields of the request, are redacted in it, too.
    """
    text = data.decode("utf-8", "replace")
    return redacted_text(text, secrets_of(sent)) if text else ""


def _may_have(data: bytes, forms: Iterable[str]) -> bool:
    """Return whether a body that is not redacted yet contains any of `forms`.

    `forms` are the ways to write the text that is searched for, in lower case. Redaction may then
    remove what was found here. Forms that are all ASCII are compared as bytes. That takes 0.1 s for
    64 MiB, a fifth of the time that text takes.
    """
    if not all(form.isascii() for form in forms):
        return _has_any(data.decode("utf-8", "replace"), forms)
    lower = data.lower()
    return any(form.encode() in lower for form in forms)


def _has_any(text: str, forms: Iterable[str]) -> bool:
    """Return whether a text contains any of `forms`, in upper or lower case.

    `forms` themselves must be in lower case.
    """
    lower = text.lower()
    return any(form in lower for form in forms)


def _trim(kept: OrderedDict[Any, Any]) -> None:
    if len(kept) > MAX_EXCHANGES:
        kept.popitem(last=False)
