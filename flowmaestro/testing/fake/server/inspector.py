"""The inspector: shows the requests to the fake server, and their outcomes, in a browser.

It keeps the last requests, and sends all news to every page that is open. It answers only `/` and
paths below `/_inspect/`; the API answers all others. Another web page can neither read it nor drive
it: the server checks `Host`, this module checks `Origin` and `Sec-Fetch-Site`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict, deque
from functools import partial
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Mapping, NamedTuple, Optional, Set
from urllib.parse import parse_qs, unquote, urlsplit

from flowmaestro.testing.fake.fake_flowmaestro import FakeFlowMaestro
from flowmaestro.testing.fake.model.endpoints import ROUTES
from flowmaestro.testing.fake.model.executions import Execution
from flowmaestro.testing.fake.model.faults import Fault
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.fake.model.service import LONGEST_ID, SHOWN_IDS
from flowmaestro.testing.fake.model.webhooks import Delivery
from flowmaestro.testing.fake.server.exchanges import (
    MAX_EXCHANGES,
    MAX_KEPT_BYTES,
    Exchanges,
    InspectedRequest,
    shown_body,
    shown_headers,
)
from flowmaestro.testing.redaction import redacted_text, shown_url
from flowmaestro.timeline import timeline_svg
from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_core.payloads.reply import decode_json
from flowmaestro_core.payloads.shapes import snake_case_keys

MAX_EXECUTIONS = MAX_DELIVERIES = 1_000
"""The most of each that are stored, the last ones: more than anybody reads on a page."""
MAX_EVENTS = 2_000
"""The most events that are stored of one execution, the last ones: those of a run of some 600
nodes."""
MAX_INPUTS = 4096
"""Characters of the inputs of an execution that are redacted for its row, which shows 200."""
MAX_FAULTS = 100
"""The most faults that are stored, the last ones."""
FIRST_REQUESTS = 200
"""The most requests that a page gets at first: a few screens, so that it opens at once."""
MORE_REQUESTS = 2_000
"""The most requests that a page gets when it asks for older ones: to write them takes 10 ms, during
which the server does nothing else."""
MAX_OUTBOX = 4 * 1024 * 1024
"""The most bytes that may wait for a page to read them. Beyond that, the page loses its feed, and
opens another one."""

_PAGE = Path(__file__).with_name("inspector.html")
_PAGE_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
]


class _Asked(NamedTuple):
    """What a page asks for: the name in the path, `""` for none, the query and the body."""

    name: str
    query: Mapping[str, List[str]]
    body: bytes


class Inspector:
    """Watches one fake. `now` returns the Unix time, in seconds, that the page shows.

    `log` gets one line for each response of the API, and each error of the seed file. A fake that
    has an inspector keeps only its last 10,000 requests, executions and deliveries.
    """

    def __init__(
        self,
        fake: FakeFlowMaestro,
        now: Callable[[], float] = time.time,
        log: Optional[Callable[[str], None]] = None,
    ) -> None:
        self._fake = fake
        self._now = now
        self._log = log
        self._exchanges = Exchanges()
        self._current: Optional[InspectedRequest] = None
        """The last request that was passed to the fake. An injected fault is recorded for it."""
        self._executions: OrderedDict[str, Execution] = OrderedDict()
        self._events: Dict[str, Deque[Mapping[str, Any]]] = {}
        self._begun: Dict[str, Dict[str, Any]] = {}
        """When each execution began and ended, by our clock, and its inputs as short JSON."""
        self._deliveries: OrderedDict[str, _Delivery] = OrderedDict()
        self._faults: OrderedDict[int, _ArmedFault] = OrderedDict()
        self._feeds: Set[Feed] = set()
        self._run = secrets.token_hex(4)
        """Differs in each process, so that a page notices a restarted server."""
        self._has_page = True
        self.trouble: str = ""
        """The problem of the seed file, if there is one."""
        self._send: Optional[Callable[[InspectedRequest], None]] = None
        self._model_time: Callable[[], float] = lambda: fake.unix_time(fake.now)
        self._changed: Callable[[], None] = lambda: None
        self._work: Callable[[Callable[[], FakeReply], FakeReply], None] = _work_now
        self._routes: Dict[str, Callable[[_Asked], FakeReply]] = {
            "GET feed": self._open_feed,
            "GET requests": self._list_requests,
            "GET search": self._search,
            "GET routes": lambda _: json_reply(
                200, [f"{route.method} {route.template}" for route in ROUTES]
            ),
            "GET requests *": lambda asked: self._later(self._find(asked.name).details),
            "GET executions *": lambda asked: self._later(self._execution(asked.name)),
            "GET deliveries *": lambda asked: self._later(self._find_delivery(asked.name).details),
            "GET timelines *": self._draw,
            "POST faults": lambda asked: self._inject(asked.body),
            "POST faults * disarm": self._disarm,
            "POST executions * cancel": self._cancel,
            "POST requests * send": lambda asked: json_reply(
                200, {"id": self._send_again(self._find(asked.name))}
            ),
            "POST deliveries * send": self._deliver_again,
        }
        """The method, and the path below `/_inspect/`, in which `*` is a name or a number."""
        fake.listen(self._happened)
        fake.listen_to_faults(self._fault_happened)
        fake.keep_last(MAX_EXCHANGES)

    def attach(
        self,
        *,
        has_page: bool,
        send: Callable[[InspectedRequest], None],
        model_time: Callable[[], float],
        changed: Callable[[], None],
        work: Callable[[Callable[[], FakeReply], FakeReply], None],
    ) -> None:
        """Use what a server can do; without one, requests cannot be sent again.

        Args:
            has_page: whether to answer a browser; otherwise the API answers every request.
            send: carries out a request again.
            model_time: returns what the fake takes for the Unix time, in seconds.
            changed: is called when the fake may have something new to do.
            work: calls a function that takes a while in another thread, and completes a response
                with what it returns: to redact 1 MiB takes 0.2 to 1 s.

        """
        self._has_page = has_page
        self._send = send
        self._model_time = model_time
        self._changed = changed
        self._work = work

    # What the server reports

    def arrived(self, request: Request) -> Optional[InspectedRequest]:
        """Record a request that has arrived, and return its record.

        Return `None`, without a record, if the request is for the inspector itself.
        """
        if self._is_own(request):
            return None
        exchange = self._add(request)
        self.about_to_handle(exchange)
        return exchange

    def about_to_handle(self, exchange: InspectedRequest) -> None:
        """From now on, record each injected fault as one of this request."""
        self._current = exchange

    def _add(self, request: Request) -> InspectedRequest:
        exchange = self._exchanges.add(request, self._now())
        self._publish(exchange.summary())
        return exchange

    def left(self, exchange: InspectedRequest) -> None:
        """Record that the client has left before the response."""
        self._exchanges.left(exchange, self._since(exchange))
        self._publish(exchange.summary())
        if self._log is not None:
            self._log(exchange.line())

    def responded(self, exchange: InspectedRequest, reply: FakeReply) -> None:
        """Record a response, the head of an event stream, or a dropped connection.

        If the client has left before, record only which execution was started.
        """
        self._exchanges.responded(exchange, reply, self._since(exchange))
        exchange.hint = self._hint(exchange)
        started = self._fake.find_execution(exchange.execution_id or "")
        if started is not None and started.id not in self._executions:
            self._note(started)
        self._publish({**exchange.summary(), "kept_bytes": self._exchanges.kept_bytes})
        if self._log is not None and exchange.ended is None:
            self._log(exchange.line())
            if exchange.hint:
                self._log(f"  {exchange.hint}")

    def _hint(self, exchange: InspectedRequest) -> str:
        """Return why the request was refused, for the person at this server; `""` for nothing.

        The client does not get it: the deployed server does not say it either.
        """
        if exchange.status == 401:
            return "another key was sent than this server has printed"
        if exchange.status not in (404, 500):
            return ""
        parts = [unquote(it) for it in urlsplit(exchange.request.url).path.split("/")]
        # `/knowledge-bases/kb_1` has an id of a `knowledge base`.
        kinds = (part.replace("-", " ")[:-1] for part in parts)
        found = self._fake.missed_in(list(zip(kinds, (id[:LONGEST_ID] for id in parts[1:]))))
        if found is None:
            return ""
        kind, id, known = found
        if kind == "workflow":
            for each in self._fake.workflows.values():
                if each.name == id:
                    return redacted_text(
                        f"there is no workflow {id}; that is the name of {each.id}"
                    )
        are = "the latest are" if len(known) == SHOWN_IDS else "there are"
        there = f"{are} {', '.join(known)}" if known else "there is none yet"
        return redacted_text(f"there is no {kind} {id}; {there}")

    def streamed(self, exchange: InspectedRequest, data: bytes) -> None:
        """Record bytes of an event stream that were sent."""
        self._exchanges.received(exchange, data, self._since(exchange))
        counts = {"events": exchange.events, "size": exchange.size}
        self._publish({"kind": "stream", "id": exchange.number, **counts})

    def stream_ended(self, exchange: InspectedRequest, how: str) -> None:
        """Record how an event stream ended, and show it on the open pages.

        `how` is `complete`, `cut` by a fault, or `left` by the client.
        """
        self._exchanges.stream_ended(exchange, how, self._since(exchange))
        self._publish(exchange.summary())

    def _since(self, exchange: InspectedRequest) -> float:
        """Return the seconds since a request came; 0.0 if the clock has been set back."""
        return max(0.0, self._now() - exchange.at)

    def delivered(self, delivery: Delivery) -> None:
        """Record an attempt of a webhook delivery, and show it on the open pages."""
        kept = self._deliveries.setdefault(delivery.id, _Delivery(delivery))
        kept.note_attempt(self._now())
        if len(self._deliveries) > MAX_DELIVERIES:
            self._deliveries.popitem(last=False)
        self._publish(kept.summary())

    def troubled(self, trouble: str) -> None:
        """Show `trouble`, the error text of the seed file, on the inspector's pages.

        `""` removes the last text: the file runs without an error again.
        """
        self.trouble = trouble
        if trouble and self._log is not None:
            self._log(trouble)
        self._publish({"kind": "trouble", "text": trouble})

    def _happened(self, name: str, data: Mapping[str, Any], execution: Execution) -> None:
        """Store an event of an execution, and send the execution's state to the open pages.

        The fake calls this for each event, while it holds its lock.
        """
        events = self._events.setdefault(execution.id, deque(maxlen=MAX_EVENTS))
        event = {**data, "type": name}
        snake_case_keys(event)
        events.append(event)
        self._note(execution)

    def _note(self, execution: Execution) -> None:
        """Store an execution, and send its state to the open pages."""
        events = self._events.setdefault(execution.id, deque(maxlen=MAX_EVENTS))
        self._executions[execution.id] = execution
        if execution.id not in self._begun:
            text = json.dumps(execution.inputs, default=str, ensure_ascii=False)
            inputs = redacted_text(text[:MAX_INPUTS])
            began = round(self._now(), 3)
            self._begun[execution.id] = {"at": began, "ended_at": None, "inputs": inputs[:200]}
        begun = self._begun[execution.id]
        if begun["ended_at"] is None and execution.completed_at is not None:
            begun["ended_at"] = round(self._now(), 3)
        if len(self._executions) > MAX_EXECUTIONS:
            oldest, _ = self._executions.popitem(last=False)
            self._events.pop(oldest, None)
            self._begun.pop(oldest, None)
        self._publish(self._execution_row(execution, len(events)))

    def _fault_happened(self, fault: Fault) -> None:
        """Record that a fault was injected into the request that was passed to the fake last."""
        armed = self._faults.get(id(fault))
        if armed is None:
            armed = self._arm(fault, fault.times + 1)
        exchange = self._current
        if exchange is not None:
            armed.hits.append(exchange.number)
            exchange.fault = fault.effect
            self._publish(exchange.summary())
        self._publish(armed.summary())

    def _publish(self, message: Mapping[str, Any]) -> None:
        for feed in list(self._feeds):
            if feed.closed:
                self._feeds.discard(feed)
            else:
                feed.publish(message)

    # What a browser requests

    def answer(self, request: Request) -> Optional[FakeReply]:
        """Return the response to a request for the inspector; `None` for one for the API."""
        if not self._is_own(request):
            return None
        try:
            return self._answer(request)
        except ValueError as error:
            return json_reply(400, {"error": str(error)})
        except LookupError as error:
            return json_reply(404, {"error": str(error)})

    def _is_own(self, request: Request) -> bool:
        path = urlsplit(request.url).path
        return self._has_page and (path == "/" or path.startswith("/_inspect/"))

    def _answer(self, request: Request) -> FakeReply:
        target = urlsplit(request.url)
        if not _is_from_itself(request.headers):
            return json_reply(403, {"error": "the inspector answers its own page only"})
        if target.path == "/":
            reply = FakeReply()
            reply.complete(200, Headers(_PAGE_HEADERS), body=_PAGE.read_bytes())
            return reply
        method = "GET" if request.method == "HEAD" else request.method
        if method not in ("GET", "POST"):
            return json_reply(405, {"error": f"{method} is not for {target.path}"})
        kind, *rest = [unquote(part) for part in target.path.split("/")[2:]]
        name, *action = rest or [""]
        route = self._routes.get(" ".join([method, kind, *(["*"] if rest else []), *action]))
        if route is None:
            raise LookupError(f"there is no {method} {target.path}")
        return route(_Asked(name, parse_qs(target.query), request.body))

    def _open_feed(self, _: _Asked) -> FakeReply:
        # The state and what follows come on one connection: nothing is missed in between, and
        # the page is filled after one round trip.
        feed = Feed({"kind": "state", **self._state()})
        self._feeds.add(feed)
        return feed.reply()

    def _list_requests(self, asked: _Asked) -> FakeReply:
        rows = list(self._exchanges)
        if "before" in asked.query:
            before = _number(asked.query["before"][0])
            rows = [each for each in rows if each.number < before]
        return json_reply(200, [each.summary() for each in rows[-MORE_REQUESTS:]])

    def _search(self, asked: _Asked) -> FakeReply:
        search = self._exchanges.search(asked.query.get("text", [""])[0][:200])
        reply = FakeReply()
        self._work(lambda: json_reply(200, dict(zip(("found", "back_to"), search()))), reply)
        return reply

    def _draw(self, asked: _Asked) -> FakeReply:
        width = _number(asked.query.get("width", ["828"])[0])
        return self._timeline(asked.name, min(max(width, 320), 4000))

    def _disarm(self, asked: _Asked) -> FakeReply:
        armed = next((each for each in self._faults.values() if each.name == asked.name), None)
        if armed is None:
            raise LookupError(f"there is no fault {asked.name!r}")
        self._fake.disarm(armed.fault)
        armed.disarmed = True
        self._publish(armed.summary())
        return json_reply(200, armed.summary())

    def _cancel(self, asked: _Asked) -> FakeReply:
        self._fake.cancel(asked.name)
        self._changed()
        return self._later(self._execution(asked.name))

    def _deliver_again(self, asked: _Asked) -> FakeReply:
        kept = self._find_delivery(asked.name)
        self._fake.deliver_again(kept.delivery)
        self._changed()
        return json_reply(200, kept.summary())

    def _state(self) -> Dict[str, Any]:
        with self._fake.lock:
            executions = [
                self._execution_row(each, len(self._events[each.id]))
                for each in self._executions.values()
            ]
        return {
            "run": self._run,
            "trouble": self.trouble,
            "requests": [each.summary() for each in list(self._exchanges)[-FIRST_REQUESTS:]],
            "executions": executions,
            "deliveries": [each.summary() for each in self._deliveries.values()],
            "faults": [each.summary() for each in self._armed_faults()],
            "kept_bytes": self._exchanges.kept_bytes,
            "max_kept_bytes": MAX_KEPT_BYTES,
            "now": self._now(),
            "model_time": self._model_time(),
        }

    def _find(self, number: str) -> InspectedRequest:
        exchange = self._exchanges.find(_number(number))
        if exchange is None:
            raise LookupError(f"request {number} is not kept")
        return exchange

    def _find_delivery(self, name: str) -> _Delivery:
        try:
            return self._deliveries[name]
        except KeyError:
            raise LookupError(f"delivery {name} is not kept") from None

    def _later(self, details: Callable[[], Dict[str, Any]]) -> FakeReply:
        """Return a response that becomes ready when `details` has been called."""
        reply = FakeReply()
        self._work(lambda: _whole(200, _encoded(details)), reply)
        return reply

    def _execution(self, name: str) -> Callable[[], Dict[str, Any]]:
        """Return a function that returns the details of an execution as it is now.

        The function redacts them, and may be called in another thread.
        """
        with self._fake.lock:
            execution = self._executions.get(name)
            if execution is None:
                raise LookupError(f"execution {name} is not kept")
            events = list(self._events[name])
            row = self._execution_row(execution, len(events))
            data = {"inputs": execution.inputs, "outputs": execution.outputs}
            more = {
                "created_at": execution.created_at,
                "requests": [each.summary() for each in self._exchanges.of_execution(name)],
                "deliveries": [
                    each.summary()
                    for each in self._deliveries.values()
                    if each.execution_id == name
                ],
            }
        return partial(_shown_execution, row, data, more, events)

    def _execution_row(self, execution: Execution, events: int) -> Dict[str, Any]:
        error = execution.error
        return {
            **self._begun[execution.id],
            "kind": "execution",
            "id": execution.id,
            "workflow": execution.workflow.name,
            "workflow_id": execution.workflow.id,
            "status": execution.status,
            "error": None if error is None else redacted_text(error),
            "seconds": execution.duration,
            "events": events,
        }

    def _timeline(self, execution_id: str, width: int) -> FakeReply:
        with self._fake.lock:  # Another thread may add an event.
            events = list(self._events.get(execution_id, ()))
        svg = timeline_svg(events, now=self._model_time(), width=width)
        reply = FakeReply()
        reply.complete(200, Headers({"Content-Type": "image/svg+xml"}), body=svg.encode())
        return reply

    def _inject(self, body: bytes) -> FakeReply:
        """Arm the fault that the JSON object in `body` describes. Reply with the fault, or a 400.

        `kind` is `fail`, `drop` or `delay`. The other members are the arguments of `fail_next`,
        `drop_connection` or `delay_next`.
        """
        try:
            asked = dict(decode_json(body))
            kind = asked.pop("kind")
            if kind == "fail":
                fault = self._fake.fail_next(**asked)
            elif kind == "drop":
                fault = self._fake.drop_connection(**asked)
            elif kind == "delay":
                fault = self._fake.delay_next(**asked)
            else:
                raise ValueError(kind)
        except (KeyError, TypeError, ValueError) as error:
            return json_reply(400, {"error": f"not a fault: {error}"})
        armed = self._arm(fault, fault.times, by="inspector")
        self._publish(armed.summary())
        return json_reply(200, armed.summary())

    def _arm(self, fault: Fault, times: int, by: str = "program") -> _ArmedFault:
        armed = self._faults[id(fault)] = _ArmedFault(fault, times, by, self._now())
        if len(self._faults) > MAX_FAULTS:
            self._faults.popitem(last=False)
        return armed

    def _armed_faults(self) -> List[_ArmedFault]:
        """Return the last faults, also those that a program has armed, such as a seed file.

        Faults that were used up or disarmed are among them.
        """
        for fault in self._fake.armed_faults:
            if id(fault) not in self._faults:
                self._arm(fault, fault.times)
        return list(self._faults.values())

    def _send_again(self, exchange: InspectedRequest) -> int:
        """Send a recorded request again, with the same API key. Return the new request's number.

        Raises `ValueError` if that is not possible.
        """
        if self._send is None:
            raise ValueError("this server cannot send a request again")
        if exchange.body_dropped:
            raise ValueError("the body of this request is not kept any more")
        if exchange.request_truncated:
            raise ValueError("only the beginning of the body of this request is kept")
        again = self._add(exchange.request)
        again.sent_again = exchange.number
        self._send(again)
        return again.number


class _ArmedFault:
    """A fault that was armed, and the last 100 requests that it was injected into."""

    def __init__(self, fault: Fault, times: int, by: str, at: float) -> None:
        self.fault = fault  # kept, so that its `id` stays its own
        self.name = secrets.token_hex(4)
        self.times = times
        self.by = by
        """Who armed it: `inspector`, or `program` for others, such as a seed file."""
        self.at = at
        """The Unix time when the inspector got to know it."""
        self.disarmed = False
        self.hits: Deque[int] = deque(maxlen=100)
        """The numbers of the last requests that it was injected into."""

    def summary(self) -> Dict[str, Any]:
        return {
            "kind": "fault",
            "id": self.name,
            "effect": self.fault.effect,
            "method": self.fault.pattern.method,
            "path": self.fault.pattern.path,
            "by": self.by,
            "at": round(self.at, 3),
            "times": self.times,
            "left": 0 if self.disarmed else self.fault.times,
            "state": "disarmed" if self.disarmed else "armed" if self.fault.times else "spent",
            "hits": list(self.hits),
        }


class _Delivery:
    """A webhook delivery and its last 100 attempts."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.attempts: List[Dict[str, Any]] = []
        self.execution_id: Optional[str] = None
        try:
            found: Any = json.loads(delivery.request.body)["data"].get("execution_id")
            self.execution_id = None if found is None else str(found)
        except (ValueError, KeyError, AttributeError, TypeError):
            pass

    def note_attempt(self, at: float) -> None:
        """Note the attempt that has just ended, at a Unix time in seconds."""
        delivery = self.delivery
        failed = delivery.state != "delivered"
        self.attempts.append(
            {
                "at": round(at, 3),
                "status": delivery.status_code,
                "ms": delivery.response_time_ms,
                "error": delivery.error if failed else None,
            }
        )
        del self.attempts[:-100]

    def summary(self) -> Dict[str, Any]:
        delivery = self.delivery
        return {
            "kind": "delivery",
            "id": delivery.id,
            "event": delivery.event,
            "url": shown_url(delivery.request.url),
            "state": delivery.state,
            "status": delivery.status_code,
            "attempts": self.attempts,
            "execution": self.execution_id,
        }

    def details(self) -> Dict[str, Any]:
        request = self.delivery.request
        headers, body = shown_headers(request.headers), shown_body(request.body, request.headers)
        return {**self.summary(), "headers": headers, "body": body}


class Feed:
    """An event stream to one page of the inspector. The server sends it as a response body."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.closed: bool = False
        self._outbox = bytearray(_message(first))

    def reply(self) -> FakeReply:
        """Return the response whose body is this feed."""
        reply = FakeReply()
        head = Headers([("Content-Type", "text/event-stream"), ("Cache-Control", "no-cache")])
        reply.complete(200, head, stream=self)
        return reply

    def publish(self, message: Mapping[str, Any]) -> None:
        """Queue a message for the page, as a server-sent event, without waiting.

        If the page has left too much unread, close the feed.
        """
        self._outbox += _message(message)
        if len(self._outbox) > MAX_OUTBOX:
            self.close()
        self.wake()

    def poll(self, now: float) -> Optional[bytes]:
        """Return the new bytes, `None` if there are none, `b""` once the stream is closed."""
        del now
        if self.closed:
            return b""
        data = bytes(self._outbox)
        self._outbox.clear()
        return data or None

    def close(self) -> None:
        """Close the stream: no further data is sent."""
        self.closed = True
        self._outbox.clear()


def _work_now(job: Callable[[], FakeReply], reply: FakeReply) -> None:
    done = job()
    reply.complete(done.status, done.headers, body=done.body)


def _message(value: Mapping[str, Any]) -> bytes:
    """Return one event of the feed: a server-sent event whose data is `value` as JSON."""
    return b"data: %s\n\n" % json.dumps(value).encode()


def _shown_json(value: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a JSON object with `***` for credentials."""
    shown: Dict[str, Any] = json.loads(redacted_text(json.dumps(value, default=str)))
    return shown


def _is_from_itself(headers: Headers) -> bool:
    """Return whether the request does not come from a page of another origin.

    A request from another origin has a foreign `Origin` (Fetch, 3.2), or `Sec-Fetch-Site` says so.
    A request with neither field counts as one that does not come from a page.
    """
    origin = headers.get("origin")
    site = headers.get("sec-fetch-site", "none")
    own = origin is None or urlsplit(origin).netloc == headers.get("host")
    return own and site in ("none", "same-origin")


def _number(text: str) -> int:
    """Return a whole number of at most 12 digits; raise `ValueError` for anything else."""
    if not text.isdecimal() or len(text) > 12:
        raise ValueError(f"not a number: {text[:40]!r}")
    return int(text)


def _shown_execution(
    row: Dict[str, Any],
    data: Dict[str, Any],
    more: Dict[str, Any],
    events: List[Mapping[str, Any]],
) -> Dict[str, Any]:
    """Return the details of an execution, redacted."""
    return {**row, **_shown_json(data), **more, "events": [*map(_shown_json, events)]}


def _encoded(details: Callable[[], Dict[str, Any]]) -> bytes:
    return json.dumps(details()).encode()


def json_reply(status: int, value: Any) -> FakeReply:
    """Return a whole response that is JSON."""
    return _whole(status, json.dumps(value).encode())


def _whole(status: int, body: bytes) -> FakeReply:
    reply = FakeReply()
    reply.complete(status, Headers({"Content-Type": "application/json"}), body=body)
    return reply
