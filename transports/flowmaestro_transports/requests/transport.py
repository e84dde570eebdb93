"""The transport on requests: it goes through the front door, `Session.send`.

What knows requests sees its calls: mounted adapters, hooks, instrumentations, recorders. They are
prepared here, so nothing that a session would add takes the place of what the core wants sent.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Tuple
from urllib.request import getproxies

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import get_auth_from_url
from urllib3.util import SKIP_HEADER, Retry
from urllib3.util import Timeout as Urllib3Timeout

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.arguments import check_session
from flowmaestro_transports.contract import OpenResponse
from flowmaestro_transports.driving.fork_guard import ForkGuard, NotPicklable
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.exchange import ANY_HOST, RequestWriter
from flowmaestro_transports.http11.failures import closed
from flowmaestro_transports.http11.proxies import basic, secrets_in
from flowmaestro_transports.requests.body import LONGEST, Body
from flowmaestro_transports.requests.failure import ERRORS, failure_before_head, failure_within_body

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class RequestsTransport(NotPicklable):
    """A `Transport` on a `requests.Session`. Safe to use from several threads.

    The session's mounted adapters, response hooks, proxies, `verify` and `cert` are used; its
    headers, cookies, auth and params are not. Its jar keeps the cookies that a reply sets, which
    requests cannot be told not to do; calls do not send them. How many connections there are is up
    to its adapters. It is never closed. Without a `session`, the transport makes one, with the
    defaults of requests, and closes it; a child after `os.fork` makes another.

    It is not patient: a body that was quiet for as long as a read waits is lost. `known_failures`
    lists the conformance checks that it fails.

    Raises `TypeError` for a `session` of another type.
    """

    patient = False
    known_failures: ClassVar[Mapping[str, str]] = {
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
        "a-last-chunk-cut-short": "http.client takes the end of a connection for that of the body",
        "a-head-that-dribbles": "urllib3 bounds each receive alone: it may keep a call for hours",
        "close-wakes-a-call": "a call waits for the head of its reply until its time is up",
        "handshake-timeout": "it is not told from a lost reply: a POST is not made again",
        "informational-replies": "urllib3 takes a 103 for the reply: the call fails",
        "reset-in-the-handshake": "it is not told from a lost reply: a POST is not made again",
    }
    """The conformance checks that it fails, each with its consequence for users."""

    def __init__(self, session: Optional[requests.Session] = None) -> None:
        if session is not None:
            check_session(session, requests.Session)
        self._callers_session = session
        self._closing = threading.Event()
        self._writer = RequestWriter(ANY_HOST)
        self._settle()

    @property
    def secrets(self) -> Tuple[str, ...]:
        """What is sent to the proxies of the session and its environment; nobody is to see it."""
        urls = [*self._session.proxies.values()]
        if self._session.trust_env:
            urls += getproxies().values()
        found: List[str] = []
        for url in urls:
            with contextlib.suppress(ValueError):  # no URL: nothing is sent to that proxy
                user = get_auth_from_url(url)
                found += secrets_in(basic(*user)) if any(user) else ()
        return tuple(found)

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`. A body of more than 64 MiB is a failure (*reply broken*)."""
        deadline = time.monotonic() + min(timeout, LONGEST)
        silence = LONGEST
        if isinstance(timeout, Timeout):
            silence = timeout.read or LONGEST
        body = self._begin(request, timeout, MAX_BODY)
        try:
            content = body.read_whole(deadline, silence)
        finally:
            body.close()
        if not content and _may_be_cut(request, body):
            message = "the reply broke off: it has neither a length nor a body"
            raise TransportFailure(Phase.REPLY_BROKEN, message)
        return Response(body.status, body.headers, content)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        return self._begin(request, timeout, sys.maxsize)

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`. Raises `TransportClosedError` as soon as somebody closes."""
        if self._closing.wait(min(seconds, LONGEST)):
            raise TransportClosedError

    def now(self) -> float:
        """As `Transport.now`."""
        return time.monotonic()

    def close(self) -> None:
        """As `Transport.close`: every read of a body and every pause wakes.

        A call that waits for the head of its reply goes on until that comes, or its time is up.
        """
        self._settle_if_forked()
        self._closing.set()
        for reference in list(self._bodies):
            body = reference()
            if body is not None:
                body.close()
        self._bodies.clear()
        self._make_room()
        if self._callers_session is None:
            _close(self._session)

    def _settle(self) -> None:
        self._session = self._callers_session or requests.Session()
        self._bodies: Dict[weakref.ref[Body], Any] = {}
        """With their replies, which would else be garbage together with a body that nobody closed,
        and be finalized before it."""
        self._given_up: List[Any] = []
        self._settled: Tuple[List[str], Mapping[str, Any]] = [], {}
        self._process = ForkGuard()

    def _settle_if_forked(self) -> None:
        if self._process.forked:
            self._settle()

    def _begin(self, request: Request, timeout: float, limit: int) -> Body:
        """Sends, and gives the reply as soon as its head is there."""
        self._settle_if_forked()
        if self._closing.is_set():
            raise TransportClosedError
        self._make_room()
        session, failure = self._session, None
        response: Any = None
        self._writer.check(request)
        limits = _limits(timeout)
        try:
            if request.method == "POST":
                _refuse_repeats(session.get_adapter(request.url))
            response = _answer(
                session, _prepared(request), timeout=limits, **self._settings(request.url)
            )
        except ERRORS as error:
            failure = failure_before_head(error)
        if failure is not None:
            if self._closing.is_set() and failure.phase is Phase.NOT_SENT:
                raise TransportClosedError
            raise failure
        body = Body(response, request.method, limit, self._given_up)
        bodies = self._bodies
        bodies[weakref.ref(body, lambda gone: bodies.pop(gone, None))] = response.raw
        if self._closing.is_set():
            body.close()
            raise closed(Phase.REPLY_BROKEN)
        return body

    def _settings(self, url: str) -> Mapping[str, Any]:
        """What the session and its environment say; of a session of ours, once for an origin."""
        origin = url.split("/", 3)[:3]
        known, settings = self._settled
        if known != origin or self._callers_session is not None:
            settings = self._session.merge_environment_settings(url, {}, True, None, None)
            self._settled = origin, settings
        return settings

    def _make_room(self) -> None:
        """Tell the pools of connections that were closed: one that blocks makes room for others.

        Not when they are closed: that may be the garbage collector's doing, in a thread that holds
        the lock of that pool.
        """
        while self._given_up:
            with contextlib.suppress(IndexError, AttributeError):  # another thread was faster
                self._given_up.pop().release_conn()


def _refuse_repeats(adapter: Any) -> None:
    limits = getattr(adapter, "max_retries", None)
    if isinstance(limits, Retry) and (limits.total is None or limits.total > 0):
        allowed = limits.allowed_methods
        if not allowed or "POST" in allowed:
            message = (
                "the adapter of the session would send a POST again by itself, which may start "
                "something twice: leave POST out of the allowed_methods of its max_retries"
            )
            raise TransportFailure(Phase.NOT_SENT, message, permanent=True)


def _close(session: Any) -> None:
    """Close a session and its pools, which it leaves to their collection.

    An exception that somebody keeps may keep a reply in its frames, and the reply its pool.
    """
    for adapter in session.adapters.values():
        for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
            keys = getattr(manager.pools, "keys", tuple)  # urllib3-future closes them when cleared
            for key in keys():
                manager.pools[key].close()
    session.close()


def _limits(timeout: float) -> Urllib3Timeout:
    """Time limits as urllib3 takes them. Raises `TransportFailure` if there is no time."""
    if timeout <= 0:
        raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
    total = connect = head = min(timeout, LONGEST)
    if isinstance(timeout, Timeout):
        connect, head = min(timeout.connect or total, total), min(timeout.head or total, total)
    return Urllib3Timeout(total=total, connect=connect, read=head)


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
    came: List[requests.Response] = []
    found: List[str] = []

    def note(response: requests.Response, **_: Any) -> None:
        came.append(response)

    def hide_location(response: requests.Response, **_: Any) -> None:
        # Session.send reads the whole body of a redirect, to say where that would have led.
        if response.is_redirect:
            found.append(response.headers.pop("Location"))

    hooks: Any = session.hooks.get("response") or []
    prepared.hooks = {"response": [note, *([hooks] if callable(hooks) else hooks), hide_location]}
    options: Any = {**settings, "stream": True, "allow_redirects": False}
    try:
        response = session.send(prepared, **options)
    except BaseException as error:  # of a hook of the caller's, if the reply came
        for reply in came:
            reply.close()
        if not isinstance(error, Exception):
            # An interruption, without the frames of requests, which hold the headers.
            raise error.with_traceback(None)  # noqa: B904
        if not came or not isinstance(error, ERRORS):
            raise
        failure = failure_within_body(error)
    else:
        if found:
            response.headers["Location"] = found[0]
        return response
    finally:
        came.clear()  # which the reply leads to, by its request
    raise failure


def _may_be_cut(request: Request, body: Body) -> bool:
    """Whether a reply without a body may be one whose head broke off.

    http.client takes what there is of such a head for all of it. A server that has nothing to say
    says so by a length, or by a status that allows no body (RFC 9110, 8.6).
    """
    says_so = "content-length" in body.headers or "transfer-encoding" in body.headers
    return not says_so and request.method != "HEAD" and body.status not in (204, 304)
