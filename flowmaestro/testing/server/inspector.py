"""The inspector: what the embedded server was asked and what came of it, for a browser.

It keeps the last requests, and sends whatever is new to every page that is open. It answers only
`/` and paths below `/_inspect/`; the API's own paths answer as the real server does. Another
web page can neither read it nor drive it: the server checks `Host`, this module `Origin`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, List, Mapping, Optional, Set
from urllib.parse import parse_qs, urlsplit

from flowmaestro.testing.fake import FakeFlowMaestro
from flowmaestro.testing.model.endpoints import ROUTES
from flowmaestro.testing.model.executions import Execution
from flowmaestro.testing.model.replies import FakeReply
from flowmaestro.testing.model.webhooks import Delivery
from flowmaestro.testing.redaction import redacted_text, secrets_of, shown_url
from flowmaestro.timeline import timeline_svg
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_core.http.secrets import showable_value
from flowmaestro_core.payloads.reply import decode_json
from flowmaestro_core.payloads.shapes import snake_case_keys
from flowmaestro_core.showing.texts import event_time

MOST_EXCHANGES = 10_000
MOST_EXECUTIONS = MOST_DELIVERIES = 1_000
LONGEST_BODY = 64 * 1024
"""Bytes kept of each body and of each event stream."""

_PAGE = Path(__file__).with_name("inspector.html")
_PAGE_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'",
    ),
]


class InspectedRequest:
    """One request and what came of it."""

    def __init__(self, number: int, request: Request, at: float) -> None:
        self.number = number
        self.request = request
        self.at = at
        self.status: Optional[int] = None
        self.headers = Headers()
        self.seconds: Optional[float] = None
        self.body = bytearray()
        self.streams = False

    def summary(self) -> Dict[str, Any]:
        """A row of the list."""
        return {
            "kind": "request",
            "id": self.number,
            "at": round(self.at, 3),
            "method": self.request.method,
            "path": _shown_path(self.request),
            "status": self.status,
            "ms": None if self.seconds is None else round(self.seconds * 1000, 1),
            "streams": self.streams,
        }

    def line(self) -> str:
        """A line of an access log."""
        status = self.status or "dropped"
        how = "opened" if self.streams else f"{(self.seconds or 0) * 1000:.0f} ms"
        return f"{self.request.method} {_shown_path(self.request)} {status} {how}"

    def details(self) -> Dict[str, Any]:
        """Everything that is kept of it; credentials are `***`."""
        return {
            **self.summary(),
            "request_headers": _shown(self.request.headers),
            "request_body": _text(self.request.body, secrets_of(self.request.headers)),
            "headers": _shown(self.headers),
            "body": _text(bytes(self.body), secrets_of(self.request.headers)),
        }


class Inspector:
    """Watches one fake; `now` is a clock in seconds. `log` gets one line for each reply.

    The fake then keeps only its last 10,000 requests, executions and deliveries.
    """

    def __init__(
        self,
        fake: FakeFlowMaestro,
        now: Callable[[], float] = time.monotonic,
        log: Optional[Callable[[str], None]] = None,
    ) -> None:
        self._fake = fake
        self._now = now
        self._log = log
        self._exchanges: OrderedDict[int, InspectedRequest] = OrderedDict()
        self._events: OrderedDict[str, Deque[Mapping[str, Any]]] = OrderedDict()
        self._deliveries: OrderedDict[str, Delivery] = OrderedDict()
        self._feeds: Set[Feed] = set()
        self._count = 0
        self._ahead = 0.0  # of our clock, the server's time since 1970
        self._run = secrets.token_hex(4)  # so that a page notices another server
        self.has_page = True
        """Whether it answers a browser; the API answers all that comes otherwise."""
        self.trouble = ""
        """What is wrong with the seed file, if anything."""
        fake.listen(self._happened)
        fake.keep_last(MOST_EXCHANGES)

    # What the server tells

    def asked(self, request: Request) -> Optional[InspectedRequest]:
        """A request has come; `None` if it is for the inspector itself."""
        if self._is_own(request):
            return None
        self._count += 1
        body = request.body[:LONGEST_BODY]
        request = Request(request.method, request.url, request.headers, body)
        exchange = self._exchanges[self._count] = InspectedRequest(
            self._count, request, self._now()
        )
        if len(self._exchanges) > MOST_EXCHANGES:
            self._exchanges.popitem(last=False)
        self._publish(exchange.summary())
        return exchange

    def answered(self, exchange: InspectedRequest, reply: FakeReply) -> None:
        """The reply to it is known: whole, or the head of an event stream."""
        exchange.status = reply.status or None
        exchange.headers = reply.headers
        exchange.seconds = self._now() - exchange.at
        exchange.streams = reply.stream is not None
        exchange.body += reply.body[:LONGEST_BODY]
        self._publish(exchange.summary())
        if self._log is not None:
            self._log(exchange.line())

    def streamed(self, exchange: InspectedRequest, data: bytes) -> None:
        """Some bytes of its event stream were sent."""
        exchange.body += data[: LONGEST_BODY - len(exchange.body)]
        self._publish(
            {
                "kind": "stream",
                "id": exchange.number,
                "text": _text(data, secrets_of(exchange.request.headers)),
            }
        )

    def delivered(self, delivery: Delivery) -> None:
        """A webhook delivery was attempted."""
        self._deliveries[delivery.id] = delivery
        if len(self._deliveries) > MOST_DELIVERIES:
            self._deliveries.popitem(last=False)
        self._publish(_delivery(delivery))

    def troubled(self, trouble: str) -> None:
        """Something is wrong with the seed file; `""` when it is right again."""
        self.trouble = trouble
        if trouble and self._log is not None:
            self._log(trouble)
        self._publish({"kind": "trouble", "text": trouble})

    def _happened(self, name: str, data: Mapping[str, Any], execution: Execution) -> None:
        events = self._events.setdefault(execution.id, deque(maxlen=2_000))
        event = {**data, "type": name}
        snake_case_keys(event)
        events.append(event)
        at = event_time(event.get("timestamp"))
        self._ahead = self._ahead if at is None else at - self._now()
        if len(self._events) > MOST_EXECUTIONS:
            self._events.popitem(last=False)
        self._publish({"kind": "execution", **_execution(execution)})

    def _publish(self, message: Mapping[str, Any]) -> None:
        for feed in list(self._feeds):
            if feed.closed:
                self._feeds.discard(feed)
            else:
                feed.publish(message)

    # What a browser asks

    def answer(self, request: Request) -> Optional[FakeReply]:
        """The reply to a request for the inspector; `None` for one for the API."""
        if not self._is_own(request):
            return None
        try:
            return self._answer(request)
        except ValueError as error:  # an `Origin` or an `after` that cannot be read
            return json_reply(400, {"error": str(error)})

    def _is_own(self, request: Request) -> bool:
        path = urlsplit(request.url).path
        return self.has_page and (path == "/" or path.startswith("/_inspect/"))

    def _answer(self, request: Request) -> FakeReply:
        target = urlsplit(request.url)
        if not _is_from_itself(request.headers):
            return json_reply(403, {"error": "the inspector answers its own page only"})
        if target.path == "/":
            reply = FakeReply()
            reply.complete(200, Headers(_PAGE_HEADERS), body=_PAGE.read_bytes())
            return reply
        parts = target.path.split("/")[2:]
        if request.method == "POST" and parts == ["faults"]:
            return self._inject(request.body)
        if request.method == "GET":
            return self._look(parts, parse_qs(target.query))
        return json_reply(405, {"error": f"{request.method} is not for {target.path}"})

    def _look(self, parts: List[str], query: Mapping[str, List[str]]) -> FakeReply:
        if parts == ["feed"]:
            feed = Feed()
            self._feeds.add(feed)
            return feed.reply()
        if parts == ["requests"]:
            number = query.get("after", ["0"])[0]
            if not number.isdecimal():
                return json_reply(400, {"error": "after is the number of a request"})
            after = int(number)
            rows = [each.summary() for each in self._exchanges.values() if each.number > after]
            return json_reply(200, rows)
        if parts == ["routes"]:
            return json_reply(200, [f"{route.method} {route.template}" for route in ROUTES])
        if parts == ["state"]:
            deliveries = [_delivery(delivery) for delivery in self._deliveries.values()]
            executions = [_execution(each) for each in self._fake.executions[-MOST_EXECUTIONS:]]
            state = {"executions": executions, "deliveries": deliveries, "trouble": self.trouble}
            return json_reply(
                200, {**state, "run": self._run, "open_streams": self._fake.open_streams}
            )
        if len(parts) == 2 and parts[0] == "requests" and parts[1].isdecimal():
            exchange = self._exchanges.get(int(parts[1]))
            if exchange is not None:
                return json_reply(200, exchange.details())
        if len(parts) == 2 and parts[0] == "timelines":
            return self._timeline(parts[1])
        return json_reply(404, {"error": f"there is nothing at /_inspect/{'/'.join(parts)}"})

    def _timeline(self, execution_id: str) -> FakeReply:
        now = self._now() + self._ahead
        svg = timeline_svg(self._events.get(execution_id, ()), now=now)
        reply = FakeReply()
        reply.complete(200, Headers({"Content-Type": "image/svg+xml"}), body=svg.encode())
        return reply

    def _inject(self, body: bytes) -> FakeReply:
        """Break the next request, as `fail_next` or `drop_connection` do."""
        try:
            asked = dict(decode_json(body))
            kind = asked.pop("kind")
            if kind == "fail":
                fault = self._fake.fail_next(**asked)
            elif kind == "drop":
                fault = self._fake.drop_connection(**asked)
            else:
                raise ValueError(kind)
        except (KeyError, TypeError, ValueError) as error:
            return json_reply(400, {"error": f"no such fault: {error}"})
        return json_reply(200, {"fault": str(fault)})


class Feed:
    """An event stream to one page; what its server writes to a connection."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.closed = False
        self._outbox = bytearray(b": open\n\n")

    def reply(self) -> FakeReply:
        """The reply that opens it."""
        reply = FakeReply()
        head = Headers([("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
        reply.complete(200, head, stream=self)
        return reply

    def publish(self, message: Mapping[str, Any]) -> None:
        """Send one message, a line of JSON."""
        if len(self._outbox) < 4 * 1024 * 1024:  # a page that reads no more is told no more
            self._outbox += b"data: %s\n\n" % json.dumps(message).encode()
            self.wake()

    def poll(self, now: float) -> Optional[bytes]:
        """As `EventStream.poll`."""
        del now
        data = bytes(self._outbox)
        self._outbox.clear()
        return data or None

    def close(self) -> None:
        """As `EventStream.close`."""
        self.closed = True


def _execution(execution: Execution) -> Dict[str, Any]:
    return {
        "id": execution.id,
        "workflow": execution.workflow.name,
        "status": execution.status,
        "error": execution.error,
        "seconds": execution.duration,
    }


def _delivery(delivery: Delivery) -> Dict[str, Any]:
    return {
        "kind": "delivery",
        "id": delivery.id,
        "event": delivery.event,
        "url": shown_url(delivery.request.url),
        "state": delivery.state,
        "status": delivery.status_code,
        "attempts": delivery.attempts,
        "body": _text(delivery.request.body[:LONGEST_BODY]),
    }


def _is_from_itself(headers: Headers) -> bool:
    """Whether no other page sent it (Fetch, 3.2: a cross-origin request bears `Origin`)."""
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "none")
    own = origin is None or urlsplit(origin).netloc == headers.get("host")
    return own and site in ("none", "same-origin")


def _shown_path(request: Request) -> str:
    shown = urlsplit(shown_url(request.url, secrets_of(request.headers)))
    return shown.path + (f"?{shown.query}" if shown.query else "")


def _shown(headers: Headers) -> List[List[str]]:
    return [[name, showable_value(name, value)] for name, value in headers.pairs]


def _text(data: bytes, sent: Iterable[bytes] = ()) -> str:
    text = data.decode("utf-8", "replace")
    return redacted_text(text, sent) if text else ""


def json_reply(status: int, value: Any) -> FakeReply:
    """A whole reply that is JSON."""
    reply = FakeReply()
    body = json.dumps(value).encode()
    reply.complete(status, Headers({"Content-Type": "application/json"}), body=body)
    return reply
