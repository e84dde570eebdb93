"""The sync transport on requests: sends through adapters, and reads bodies with patience.

Requests are prepared by hand and given to an adapter, which is what `Session.request` would do
after it has merged settings, cookies and credentials of its own, none of which belong here.
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
import time
import weakref
from functools import partial
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Generator,
    List,
    Mapping,
    Optional,
    Protocol,
    Tuple,
)

import requests
from requests.structures import CaseInsensitiveDict
from urllib3.util import SKIP_HEADER

from flowmaestro_core.http.messages import (
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.arguments import check_max_connections, check_session
from flowmaestro_transports.contract import InterruptibleTransport, OpenResponse
from flowmaestro_transports.driving.fork_guard import ForkGuard, NotPicklable, warn_unclosed
from flowmaestro_transports.http11.content_coding import MAX_BODY
from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.tls import ClientCert, Verify, tls_context
from flowmaestro_transports.requests.adapter import ReplyAdapter, origin_of
from flowmaestro_transports.requests.body import Body, body_of
from flowmaestro_transports.requests.connection import AttemptLimits
from flowmaestro_transports.requests.failure import ERRORS, failure_before_head
from flowmaestro_transports.requests.interrupt import (
    AtHand,
    InterruptibleRequests,
    Lever,
    Levers,
)
from flowmaestro_transports.requests.places import Places

_Settings = Tuple[Any, Any, Mapping[str, str]]
"""`verify`, `cert` and `proxies`, as adapters take them."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class RequestsTransport(NotPicklable):
    """A `Transport` on requests. Safe to use from several threads.

    Without a `session`, it keeps connections of its own. At most `max_connections` calls are on
    their way at once, and others wait within their own time limits; a body that `open` has
    returned does not count.

    `verify` and `client_cert` are what `tls_context` takes: whom to trust, and what to show.
    `proxy` is the URL of a proxy for every call, `http://user:password@host:3128` or
    `https://...`; without it, the environment names the proxies, as `Proxies` says. With
    `trust_env=False` nothing of the environment counts, for certificates either. All of it is
    settled here, once. No time limit cuts short the lookup of a name: it is one call of the
    operating system's, in the caller's thread.

    With a `session`, its mounted adapters, proxies, `verify` and `cert` are used, and read
    once for each origin; its headers, cookies, auth, params and hooks are not. It is never
    changed and never closed. How many connections there are is up to its adapters, and so is
    the head of a reply: what passes for a status, and that one may dribble in, since only each
    of its receives is bounded.

    Raises `ValueError` for a `max_connections` below 1, and for a `verify`, `client_cert`,
    `trust_env` or `proxy` beside a session, which has its own; `TypeError` for a `session` or
    `max_connections` of another type; and what `tls_context` and `Proxies` raise.
    """

    def __init__(
        self,
        session: Optional[requests.Session] = None,
        *,
        verify: Verify = True,
        client_cert: Optional[ClientCert] = None,
        trust_env: bool = True,
        proxy: Optional[str] = None,
        max_connections: int = 100,
    ) -> None:
        check_session(session, requests.Session)
        check_max_connections(max_connections)
        self._streams: Optional[weakref.WeakSet[Body]] = None
        self._make_adapters: Callable[[AtHand], _Adapters]
        if session is None:
            context = tls_context(verify, client_cert, trust_env=trust_env)
            proxies = Proxies(proxy, trust_env=trust_env)
            self._make_adapters = partial(_OwnAdapters, context, proxies, max_connections)
        elif (verify, client_cert, trust_env, proxy) == (True, None, True, None):
            self._make_adapters = partial(_SessionAdapters, session)
        else:
            raise ValueError("verify, client_cert, trust_env and proxy belong to the session")
        self._settle()
        self._closed = False

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`. A body of more than 64 MiB is a failure (*reply broken*)."""
        limits = AttemptLimits(timeout)
        lever = self._lever_at_hand()
        try:
            with self._adapters.place_for_a_call(limits.connect_deadline):
                body = self._begin(request, limits, MAX_BODY, lever)
                try:
                    content = _whole(body, limits)
                except BaseException:
                    body.close()
                    raise
        finally:
            lever.let_go()
        return Response(body.status, body.headers, content)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        limits = AttemptLimits(timeout)
        lever = self._lever_at_hand()
        try:
            body = self._begin(request, limits, sys.maxsize, lever)
        finally:
            lever.let_go()
        with self._lock:
            if self._streams is None:
                self._streams = weakref.WeakSet()
            self._streams.add(body)
            closed = self._closed
        if closed:
            body.close()
        return body

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`. Raises `TransportClosedError` as soon as somebody closes."""
        self._lever_at_hand().pause(seconds)
        if self._closed:
            raise TransportClosedError

    def now(self) -> float:
        """As `Transport.now`."""
        return time.monotonic()

    def interruptible(self) -> InterruptibleTransport:
        """As `Interruptible.interruptible`. What cannot be cut short: looking up a name, and
        waiting for one of `max_connections`; with a `session`, also the way to a reply's head.
        """
        return InterruptibleRequests(self, self._at_hand, self._levers.make())

    def close(self) -> None:
        """As `Transport.close`: whoever is at a call or a pause wakes, but for what
        `interruptible` names. A session of the caller's stays open; streams through it end.
        """
        self._settle_if_forked()
        with self._lock:
            self._closed = True
            streams = list(self._streams or ())
        for stream in streams:
            stream.close()
        self._levers.pull()
        self._adapters.close()

    def __del__(self) -> None:
        if (
            not getattr(self, "_closed", True)
            and self._adapters.holds_connections
            and not self._process.forked
        ):
            warn_unclosed(self)  # the collection of the pools closes them

    def _settle(self) -> None:
        """Begin with no connection and with locks that nobody holds."""
        self._levers = Levers()
        self._at_hand = AtHand(self._levers.make)
        self._adapters = self._make_adapters(self._at_hand)
        self._streams = None
        self._places = Places()
        self._lock = threading.Lock()
        self._process = ForkGuard()

    def _settle_if_forked(self) -> None:
        if self._process.forked:
            self._settle()

    def _lever_at_hand(self) -> Lever:
        """The lever of the step that this thread begins. Raises `TransportClosedError`."""
        self._settle_if_forked()
        lever = self._at_hand.lever
        if self._closed:  # only now: what is made later, no close pulls
            raise TransportClosedError
        return lever

    def _begin(self, request: Request, limits: AttemptLimits, limit: int, lever: Lever) -> Body:
        """Sends, and gives the reply as soon as its head is there, within reach of `lever`."""
        if self._closed:  # while the call waited for its turn
            raise TransportClosedError
        if time.monotonic() >= limits.connect_deadline:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        self._places.settle()
        try:
            verify, cert, proxies = self._adapters.settings(request.url)
            response = self._adapters.adapter_for(request.url).send(
                _prepared(request),
                stream=True,
                timeout=limits,
                verify=verify,
                cert=cert,
                proxies=proxies,
            )
        except ERRORS as error:
            failure = failure_before_head(error)
            if self._closed:
                if failure.phase is Phase.NOT_SENT:
                    raise TransportClosedError from error
                failure = TransportFailure(failure.phase, "no reply came: closed by this side")
            raise failure from error
        body = body_of(response, request.method, limit, self._places)
        lever.hold_body(body)
        if 100 <= body.status < 200:
            body.close()
            raise TransportFailure(
                Phase.REPLY_BROKEN, f"an informational reply ({body.status}) came as the final one"
            )
        return body


class _Adapter(Protocol):
    """`requests.adapters.BaseAdapter`, of which versions of requests have different types."""

    def send(
        self, request: Any, stream: Any, timeout: Any, verify: Any, cert: Any, proxies: Any
    ) -> requests.Response: ...


class _Adapters(Protocol):
    """Where adapters come from, and what they are told."""

    def adapter_for(self, url: str, /) -> _Adapter: ...
    def settings(self, url: str, /) -> _Settings: ...
    def place_for_a_call(self, deadline: float, /) -> ContextManager[object]: ...
    def close(self) -> None: ...
    @property
    def holds_connections(self) -> bool: ...


class _OwnAdapters:
    """One adapter, and a bound on the calls: it makes connections as they are needed."""

    def __init__(
        self, context: ssl.SSLContext, proxies: Proxies, max_connections: int, at_hand: AtHand
    ) -> None:
        self._adapter = ReplyAdapter(context, proxies, max_connections, at_hand)
        self._free = threading.Semaphore(max_connections)

    def adapter_for(self, _url: str, /) -> _Adapter:
        return self._adapter

    def settings(self, _url: str, /) -> _Settings:
        return True, None, {}  # the adapters know

    @contextlib.contextmanager
    def place_for_a_call(self, deadline: float) -> Generator[None, None, None]:
        if not self._free.acquire(timeout=max(deadline - time.monotonic(), 0)):
            raise TransportFailure(
                Phase.NOT_SENT, "no connection came free in time", timed_out=True
            )
        try:
            yield
        finally:
            self._free.release()

    def close(self) -> None:
        self._adapter.close()
        self._free.release()  # who waits for a turn finds it closed, and makes way for the next

    @property
    def holds_connections(self) -> bool:
        return self._adapter.holds_connections


class _SessionAdapters:
    """The adapters mounted on a session that is not ours."""

    def __init__(self, session: requests.Session, _at_hand: AtHand) -> None:
        self._session = session
        self._settings: Dict[str, _Settings] = {}

    def adapter_for(self, url: str) -> _Adapter:
        return self._session.get_adapter(url)

    def settings(self, url: str) -> _Settings:
        origin = origin_of(url)
        settings = self._settings.get(origin)
        if settings is None:
            merged = self._session.merge_environment_settings(url, {}, None, None, None)
            settings = merged["verify"], merged["cert"], merged["proxies"]
            self._settings[origin] = settings
        return settings

    def place_for_a_call(self, _deadline: float, /) -> ContextManager[object]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass

    @property
    def holds_connections(self) -> bool:
        return False  # the session's connections are its owner's


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


def _whole(body: Body, limits: AttemptLimits) -> bytes:
    pieces: List[bytes] = []
    while True:
        piece = body.read(limits.patience())
        if piece is None:
            in_time = time.monotonic() < limits.deadline
            what = "the reply fell silent" if in_time else "the reply did not end in time"
            raise TransportFailure(Phase.REPLY_BROKEN, what, timed_out=True)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
