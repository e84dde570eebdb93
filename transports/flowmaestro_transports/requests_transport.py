"""The blocking transport on requests: sends through adapters, and reads bodies with patience.

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
    Union,
)

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies
from urllib3.util import SKIP_HEADER, Timeout

from flowmaestro_core.http import Phase, Request, Response, TransportClosedError, TransportFailure
from flowmaestro_transports.content_coding import MAX_BODY
from flowmaestro_transports.contract import OpenResponse
from flowmaestro_transports.requests_body import LONGEST, Body, body_of
from flowmaestro_transports.requests_connection import ReplyAdapter
from flowmaestro_transports.requests_failure import ERRORS, failure_before_head
from flowmaestro_transports.tls import tls_context

_Settings = Tuple[Any, Any, Mapping[str, str]]
"""`verify`, `cert` and `proxies`, as adapters take them."""

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class RequestsTransport:
    """A `Transport` on requests. Safe to use from several threads.

    Without a `session`, it keeps connections of its own: `verify` is True for the system's
    trust store, the path of CA certificates, an `ssl.SSLContext`, or False; at most
    `max_connections` calls are on their way at once, and others wait within their own time
    limits. Proxies come from the environment, read once for each origin.

    With a `session`, its mounted adapters, proxies, `verify` and `cert` are used, and read
    once for each origin; its headers, cookies, auth, params and hooks are not. It is never
    changed and never closed. How many connections there are is up to its adapters, and so is
    the head of a reply that dribbles in: only each of its receives is bounded.

    A `verify` beside a session is a `ValueError`: the session has one of its own.
    """

    def __init__(
        self,
        session: Optional[requests.Session] = None,
        *,
        verify: Union[bool, str, ssl.SSLContext] = True,
        max_connections: int = 100,
    ) -> None:
        if session is not None and verify is not True:
            raise ValueError("verify belongs to the session: set session.verify")
        if max_connections < 1:
            raise ValueError("max_connections must be at least 1")
        self._adapters: _Adapters = (
            _OwnAdapters(verify, max_connections) if session is None else _SessionAdapters(session)
        )
        self._streams: weakref.WeakSet[Body] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`. A body of more than 64 MiB is a failure (*reply broken*)."""
        deadline = time.monotonic() + min(timeout, LONGEST)
        self._refuse_if_closed()
        with self._adapters.place_for_a_call(deadline):
            body = self._begin(self._adapters.for_call, request, deadline, MAX_BODY)
            try:
                content = _whole(body, deadline)
            except BaseException:
                body.close()
                raise
        return Response(body.status, body.headers, content)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        deadline = time.monotonic() + min(timeout, LONGEST)
        self._refuse_if_closed()
        body = self._begin(self._adapters.for_stream, request, deadline, sys.maxsize)
        with self._lock:
            self._streams.add(body)
            closed = self._closed
        if closed:
            body.close()
        return body

    def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        time.sleep(seconds)

    def now(self) -> float:
        """As `Transport.now`."""
        return time.monotonic()

    def close(self) -> None:
        """As `Transport.close`. A session of the caller's stays open; streams through it end."""
        with self._lock:
            self._closed = True
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._adapters.close()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise TransportClosedError

    def _begin(
        self, adapter_for: _AdapterFor, request: Request, deadline: float, limit: int
    ) -> Body:
        """Sends, and gives the reply as soon as its head is there."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TransportFailure(Phase.NOT_SENT, "no time left to connect", timed_out=True)
        try:
            verify, cert, proxies = self._adapters.settings(request.url)
            response = adapter_for(request.url).send(
                _prepared(request),
                stream=True,
                timeout=Timeout(total=left),
                verify=verify,
                cert=cert,
                proxies=proxies,
            )
        except ERRORS as error:
            raise failure_before_head(error) from error
        body = body_of(response, request.method, limit)
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


_AdapterFor = Callable[[str], _Adapter]


class _Adapters(Protocol):
    """Where adapters come from, and what they are told."""

    def for_call(self, url: str, /) -> _Adapter: ...
    def for_stream(self, url: str, /) -> _Adapter: ...
    def settings(self, url: str, /) -> _Settings: ...
    def place_for_a_call(self, deadline: float, /) -> ContextManager[object]: ...
    def close(self) -> None: ...


class _OwnAdapters:
    """Two adapters, so that streams take no connection from calls, and a bound on the calls."""

    def __init__(self, verify: Union[bool, str, ssl.SSLContext], max_connections: int) -> None:
        context = tls_context(verify)
        self._calls = ReplyAdapter(context, max_connections)
        self._streams = ReplyAdapter(context, max_connections)
        self._free = threading.Semaphore(max_connections)
        self._proxies: Dict[str, Dict[str, str]] = {}

    def for_call(self, _url: str, /) -> _Adapter:
        return self._calls

    def for_stream(self, _url: str, /) -> _Adapter:
        return self._streams

    def settings(self, url: str) -> _Settings:
        origin = _origin(url)
        proxies = self._proxies.get(origin)
        if proxies is None:
            proxies = self._proxies[origin] = get_environ_proxies(url)
        return True, None, proxies  # the adapters' context verifies

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
        self._calls.close()
        self._streams.close()


class _SessionAdapters:
    """The adapters mounted on a session that is not ours."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session
        self._settings: Dict[str, _Settings] = {}

    def for_call(self, url: str) -> _Adapter:
        return self._session.get_adapter(url)

    def for_stream(self, url: str) -> _Adapter:
        return self._session.get_adapter(url)

    def settings(self, url: str) -> _Settings:
        origin = _origin(url)
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


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _prepared(request: Request) -> requests.PreparedRequest:
    """The request as it is; of what the stack would add of its own, all but Host is told off."""
    headers: CaseInsensitiveDict[Any] = CaseInsensitiveDict()
    for name, value in request.headers.pairs:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    for name in ("User-Agent", "Accept-Encoding"):
        headers.setdefault(name, SKIP_HEADER)
    if request.body or request.method not in _BODILESS:
        headers.setdefault("Content-Length", str(len(request.body)))
    prepared = requests.PreparedRequest()
    prepared.method = request.method
    prepared.url = request.url
    prepared.headers = headers
    prepared.body = request.body or None
    return prepared


def _whole(body: Body, deadline: float) -> bytes:
    pieces: List[bytes] = []
    while True:
        piece = body.read(deadline - time.monotonic())
        if piece is None:
            raise TransportFailure(
                Phase.REPLY_BROKEN, "the reply did not end in time", timed_out=True
            )
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
