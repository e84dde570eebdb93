"""The transport on requests: it goes through the front door, `Session.send`.

What knows requests sees its calls: mounted adapters, hooks, instrumentations, recorders. They are
prepared here, so nothing that a session would add takes the place of what the core wants sent.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
import weakref
from functools import partial
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional, Set, Tuple, Union

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy
from urllib3.util import SKIP_HEADER
from urllib3.util import Timeout as Urllib3Timeout

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.arguments import check_session, network_options
from flowmaestro_transports.contract import OpenResponse
from flowmaestro_transports.driving.fork_guard import ForkGuard, NotPicklable, warn_unclosed
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.tls import ClientCert, Verify
from flowmaestro_transports.requests.body import LONGEST, Body
from flowmaestro_transports.requests.failure import ERRORS, failure_before_head
from flowmaestro_transports.requests.sessions import CallersSession, OwnSessions
from flowmaestro_transports.requests.slots import Slot, Slots

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class RequestsTransport(NotPicklable):
    """A `Transport` on requests. Safe to use from several threads.

    With a `session`, its mounted adapters, response hooks, proxies, `verify` and `cert` are used;
    its headers, cookies, auth and params are not. It is never closed. How many connections there
    are is up to its adapters.

    Without one, it has sessions of its own. At most `max_connections` calls are on their way at
    once, and others wait within their own time limits; a body that `open` has returned does not
    count. `verify` and `client_cert` are what `tls_context` takes: whom to trust, and what to
    show. `proxy` is the URL of a proxy for every call, `http://user:password@host:3128` or
    `https://...`; without it, the environment names the proxies, as `Proxies` says. With
    `trust_env=False` nothing of the environment counts, for certificates either.

    It is not patient: a body that was quiet for as long as a read waits is lost. What else it
    falls short of, `falls_short` says.

    Raises `ValueError` for a `max_connections` below 1, and for a `verify`, `client_cert`,
    `trust_env` or `proxy` beside a session, which has its own; `TypeError` for a `session` or
    `max_connections` of another type; and what `tls_context` and `Proxies` raise.
    """

    patient = False
    falls_short: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            (
                "quiet-body",
                "no-patience-at-all",
                "quiet-within-a-chunk-header",
                "quiet-within-a-chunk",
                "quiet-over-tls",
            ),
            "a receive that has timed out cannot be repeated: streams reconnect",
        ),
        "a-body-cut-off-under-tls": "http.client takes the end of a connection for one of TLS",
        "a-body-that-dribbles": "a chunk header that dribbles keeps a call for hours",
        **dict.fromkeys(
            ("a-flood-of-trailers", "a-stream-flooded-with-trailers"),
            "http.client reads all trailers in one go, without a look at the time",
        ),
        **dict.fromkeys(
            ("an-interrupted-call-loses-nothing", "an-interrupted-stream-loses-nothing"),
            "the lock of urllib3's pool is written in Python: an interrupt may keep it taken",
        ),
        "a-flood-of-informational-replies": "http.client reads all of them in one go",
        "a-garbled-length": "http.client takes for a chunk's size what int() takes for a number",
        "a-garbled-status-line": "http.client takes for a status what int() takes for a number",
        "a-head-that-dribbles": "urllib3 bounds each receive alone: it may keep a call for hours",
        "close-wakes-a-call": "a call waits for the head of its reply until its time is up",
        "handshake-timeout": "it is not told from a lost reply: a POST is not made again",
        "informational-replies": "urllib3 takes a 103 for the reply: the call fails",
        "reset-in-the-handshake": "it is not told from a lost reply: a POST is not made again",
    }
    """Checks of the conformance kit that it does not pass, and what that means to users."""

    def __init__(
        self,
        session: Optional[requests.Session] = None,
        *,
        verify: Verify = True,
        client_cert: Optional[ClientCert] = None,
        proxy: Optional[str] = None,
        trust_env: bool = True,
        max_connections: int = 100,
    ) -> None:
        self._make_sessions: Callable[[], Union[CallersSession, OwnSessions]]
        self.secrets: Tuple[str, ...] = ()
        """What it sends to its proxies, which nobody is to see."""
        if session is None:
            tls, proxies = network_options(verify, client_cert, proxy, trust_env, max_connections)
            self.secrets = proxies.secrets
            self._make_sessions = partial(OwnSessions, tls(), proxies, max_connections)
        else:
            others = verify, client_cert, proxy, trust_env
            check_session(session, requests.Session, max_connections, *others)
            self._make_sessions = partial(CallersSession, session)
        self._max_connections = sys.maxsize if session is not None else max_connections
        self._settle()
        self._closed = False

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`. A body of more than 64 MiB is a failure (*reply broken*)."""
        limits = _Limits(timeout)
        self._refuse_if_closed()
        slot = self._slots.take(limits.connect_deadline)
        if slot is None:
            self._refuse_if_closed()
            raise TransportFailure(
                Phase.NOT_SENT, "no connection came free in time", timed_out=True
            )
        try:
            body = self._begin(request, limits, MAX_BODY)
            try:
                content = body.read_whole(limits.deadline, limits.silence)
            finally:
                body.close()
            if not content and _may_be_cut(request, body):
                message = "the reply broke off: it has neither a length nor a body"
                raise TransportFailure(Phase.REPLY_BROKEN, message)
            return Response(body.status, body.headers, content)
        finally:
            self._slots.free(slot)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        return self._begin(request, _Limits(timeout), sys.maxsize)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`. Raises `TransportClosedError` as soon as somebody closes."""
        self._refuse_if_closed()
        pause = Slot()
        self._pauses.add(pause)
        try:
            if not self._closed:
                pause.gate.acquire(timeout=min(max(seconds, 0), LONGEST))
        finally:
            self._pauses.discard(pause)
        self._refuse_if_closed()

    def now(self) -> float:
        """As `Transport.now`."""
        return time.monotonic()

    def close(self) -> None:
        """As `Transport.close`: every read of a body and every pause wakes.

        A call that waits for the head of its reply goes on until that comes, or its time is up. A
        session of the caller's stays open.
        """
        self._settle_if_forked()
        self._closed = True
        for ref in list(self._bodies):
            body = ref()
            if body is not None:
                body.close()
        for pause in list(self._pauses):
            with contextlib.suppress(RuntimeError):  # it is over
                pause.gate.release()
        self._slots.close()
        self._sessions.close()

    def __del__(self) -> None:
        if (
            not getattr(self, "_closed", True)
            and self._sessions.holds_connections
            and not self._process.forked
        ):
            warn_unclosed(self)  # the collection of the pools closes them

    def _settle(self) -> None:
        """Begin with no connection and an empty queue."""
        self._sessions = self._make_sessions()
        self._slots = Slots(self._max_connections)
        self._raws: Dict[int, Any] = {}
        """Of the bodies that are open. They would else be garbage together with a body that nobody
        closed, and their sockets would warn before it is collected."""
        self._bodies: Set[weakref.ref[Body]] = set()
        self._pauses: Set[Slot] = set()
        self._process = ForkGuard()

    def _settle_if_forked(self) -> None:
        if self._process.forked:
            self._settle()

    def _refuse_if_closed(self) -> None:
        self._settle_if_forked()
        if self._closed:
            raise TransportClosedError

    def _begin(self, request: Request, limits: _Limits, limit: int) -> Body:
        """Sends, and gives the reply as soon as its head is there."""
        self._refuse_if_closed()
        sessions, left = self._sessions, limits.left()
        session: Any = None
        proxy: Optional[str] = None
        response: Any = None
        failure = None
        try:
            settings = sessions.settings(request.url)
            if settings["proxies"]:
                proxy = select_proxy(request.url, settings["proxies"])
            session = sessions.take()
            response = _answer(session, _prepared(request), timeout=left, **settings)
        except ERRORS as error:
            failure = failure_before_head(error, proxy)
        if failure is not None:
            if session is not None:
                sessions.give_up(session, None, None)
            if self._closed and failure.phase is Phase.NOT_SENT:
                raise TransportClosedError
            raise failure
        raws = self._raws
        connection = getattr(response.raw, "connection", None)  # None as soon as it is read
        let_go = partial(_let_go, sessions, session, response.raw, connection, raws)
        body = Body(response, request.method, limit, let_go)
        raws[id(response.raw)] = response.raw
        self._bodies.add(weakref.ref(body, self._bodies.discard))
        if self._closed:
            body.close()
            raise TransportFailure(Phase.REPLY_BROKEN, "the reply broke off: closed by this side")
        return body


class _Limits:
    """The time limits of an attempt that begins now."""

    def __init__(self, timeout: float) -> None:
        now = time.monotonic()
        self.deadline = self.connect_deadline = now + min(timeout, LONGEST)
        self._head = self.silence = math.inf
        if isinstance(timeout, Timeout):
            self._head = timeout.head or math.inf
            self.silence = timeout.read or math.inf
            self.connect_deadline = min(self.deadline, now + (timeout.connect or math.inf))

    def left(self) -> Urllib3Timeout:
        """What is left, as urllib3 takes it. Raises `TransportFailure` if that is nothing."""
        now = time.monotonic()
        if now >= self.connect_deadline:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        total = self.deadline - now
        head = min(self._head, total)
        return Urllib3Timeout(total=total, connect=self.connect_deadline - now, read=head)


def _let_go(
    sessions: Union[CallersSession, OwnSessions],
    session: requests.Session,
    raw: Any,
    connection: Any,
    raws: Dict[int, Any],
    read: bool,
) -> None:
    raws.pop(id(raw), None)
    if read:
        sessions.give_back(session, connection)
    else:
        sessions.give_up(session, raw, connection)


def _prepared(request: Request) -> requests.PreparedRequest:
    """The request as it is; of what the stack would add of its own, all but Host is told off."""
    given = request.headers
    headers: CaseInsensitiveDict[Any] = CaseInsensitiveDict()
    for name, _ in given.pairs:
        headers[name] = given[name]
    for name in ("User-Agent", "Accept-Encoding"):
        if name not in given:
            headers[name] = SKIP_HEADER
    if (request.body or request.method not in _BODILESS) and "Content-Length" not in given:
        headers["Content-Length"] = str(len(request.body))
    prepared = requests.PreparedRequest()
    prepared.method = request.method
    prepared.url = request.url
    prepared.headers = headers
    prepared.body = request.body or None
    return prepared


def _answer(
    session: requests.Session, prepared: requests.PreparedRequest, **settings: Any
) -> requests.Response:
    """The reply to a request, through the session's adapters and hooks, no redirect followed."""
    found: List[str] = []

    def hide_location(response: requests.Response, **_: Any) -> None:
        # Session.send reads the whole body of a redirect, to say where that would have led.
        if response.is_redirect:
            found.append(response.headers.pop("Location"))

    hooks: Any = session.hooks.get("response") or []
    prepared.hooks = {"response": [*([hooks] if callable(hooks) else hooks), hide_location]}
    options: Any = {**settings, "stream": True, "allow_redirects": False}
    response = session.send(prepared, **options)
    if found:
        response.headers["Location"] = found[0]
    return response


def _may_be_cut(request: Request, body: OpenResponse) -> bool:
    """Whether a reply without a body may be one whose head broke off.

    http.client takes what there is of such a head for all of it. A server that has nothing to say
    says so by a length, or by a status that allows no body (RFC 9110, 8.6).
    """
    says_so = "content-length" in body.headers or "transfer-encoding" in body.headers
    return not says_so and request.method != "HEAD" and body.status not in (204, 304)
