"""What a client runs on: a transport, on threads or on an event loop. One test is put to all.

Called, a runner gives its transport as if it were a sync one, whatever it is.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import aiohttp
import pytest
import requests
from anyio.from_thread import start_blocking_portal

from flowmaestro.testing import AsyncMemoryTransport, MemoryTransport
from flowmaestro_core.http.messages import Headers, Phase, Request, Response, TransportFailure
from flowmaestro_transports import (
    AiohttpTransport,
    AnyioTransport,
    RequestsTransport,
    SocketTransport,
)
from flowmaestro_transports.contract import secrets_of

Call = Callable[..., Any]


class OnRequests(RequestsTransport):
    """On a session that is closed with it."""

    def close(self) -> None:
        super().close()
        self._session.close()


def on_requests(
    verify: Any = True,
    client_cert: Any = None,
    proxy: Any = None,
    trust_env: bool = False,
    max_connections: Any = None,
) -> RequestsTransport:
    """On a session with these options, as its user would set them.

    By default it does not trust the environment, whose REQUESTS_CA_BUNDLE would beat `verify`.
    """
    session = requests.Session()
    session.verify, session.cert, session.trust_env = verify, client_cert, trust_env
    if proxy is not None:
        session.proxies = {"http": proxy, "https": proxy}
    return OnRequests(session, max_connections=max_connections)


class OnAiohttp(AiohttpTransport):
    """The same on aiohttp, made on its event loop; the session is closed with it."""

    def __init__(
        self,
        verify: Any = True,
        client_cert: Any = None,
        proxy: Any = None,
        trust_env: bool = True,
        max_connections: Any = None,
    ) -> None:
        context: Any = verify
        if not isinstance(verify, (bool, ssl.SSLContext)):
            context = ssl.create_default_context(cafile=verify)
        if client_cert is not None:
            context.load_cert_chain(*client_cert)
        connector = aiohttp.TCPConnector(
            ssl=context, enable_cleanup_closed=sys.version_info < (3, 11)
        )
        session = aiohttp.ClientSession(connector=connector, proxy=proxy, trust_env=trust_env)
        super().__init__(session, max_connections=max_connections)
        self._owns_session = True


def _plainly(call: Call, *args: Any) -> Any:
    return call(*args)


class Body:
    def __init__(self, call: Call, body: Any) -> None:
        self.status, self.headers = body.status, body.headers
        self._call, self._body = call, body

    def read(self, patience: float) -> Optional[bytes]:
        data: Optional[bytes] = self._call(self._body.read, patience)
        return data

    def read_all(self) -> bytes:
        pieces: List[bytes] = []
        while True:
            piece = self.read(5.0)
            assert piece is not None
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)

    def close(self) -> None:
        self._call(self._body.close)


class Driven:
    """A transport whose coroutines, if it has any, run to their end."""

    def __init__(self, call: Call, transport: Any) -> None:
        self._call, self._transport = call, transport

    @property
    def secrets(self) -> Tuple[str, ...]:
        return secrets_of(self._transport)

    def send(self, request: Request, timeout: float = 5.0) -> Response:
        response: Response = self._call(self._transport.send, request, timeout)
        return response

    def open(self, request: Request, timeout: float = 5.0) -> Body:
        return Body(self._call, self._call(self._transport.open, request, timeout))

    def sleep(self, seconds: float) -> None:
        self._call(self._transport.sleep, seconds)

    def close(self) -> None:
        self._call(self._transport.close)


OF_THE_LIBRARY: Dict[Any, Dict[str, str]] = {
    RequestsTransport: {
        "a-head-that-dribbles": "urllib3 bounds each receive alone: a head may take hours",
        "a-last-chunk-cut-short": "http.client accepts the end of a connection as that of a body",
    },
    AiohttpTransport: {
        "a-malformed-chunk-behind-the-head": "aiohttp returns no response if one segment has both",
    },
}
"""What the libraries of the adapters decide, by hostile checks of the kit that tests ask for."""


@dataclass(frozen=True)
class Runner:
    """`make` makes the transport; `backend` is the event loop it needs, `None` for threads.

    `on_session` makes one with options of the network, where these are a session's.
    """

    name: str
    make: Callable[..., Any]
    backend: Optional[str] = None
    on_session: Optional[Callable[..., Any]] = None

    def __str__(self) -> str:
        return self.name

    @property
    def wired(self) -> bool:
        """Whether it goes over a real socket."""
        return self.make not in (MemoryTransport, AsyncMemoryTransport)

    def needs(self, check: str) -> None:
        """Skip a test whose check this transport declares as a known failure."""
        if self.declares(check):
            pytest.skip(f"{check}: {self._known_failures[check]}")

    def declares(self, check: str) -> bool:
        """Return whether this transport declares a check as a known failure."""
        return check in self._known_failures

    @property
    def _known_failures(self) -> Mapping[str, str]:
        return {**getattr(self.make, "known_failures", {}), **OF_THE_LIBRARY.get(self.make, {})}

    def made(self, *args: Any, **options: Any) -> Any:
        return (self.on_session if options and self.on_session else self.make)(*args, **options)

    @contextlib.contextmanager
    def __call__(self, *args: Any, **options: Any) -> Iterator[Driven]:
        with contextlib.ExitStack() as stack:
            call: Call = _plainly
            if self.backend is not None:
                call = stack.enter_context(start_blocking_portal(self.backend)).call
            made = call(partial(self.made, *args, **options))
            stack.callback(call, made.close)
            yield Driven(call, made)


SYNC = (
    Runner("sockets", SocketTransport),
    Runner("requests", RequestsTransport, on_session=on_requests),
)
ASYNC = (
    Runner("aiohttp", AiohttpTransport, "asyncio", OnAiohttp),
    Runner("anyio-asyncio", AnyioTransport, "asyncio"),
    Runner("anyio-trio", AnyioTransport, "trio"),
)
RUNNERS: Dict[str, Runner] = {runner.name: runner for runner in (*SYNC, *ASYNC)}
"""Every transport of ours that needs a network."""

OURS = tuple(runner for runner in RUNNERS.values() if runner.on_session is None)
"""Those that take options of the network themselves."""

IN_MEMORY = (
    Runner("memory", MemoryTransport),
    Runner("memory-asyncio", AsyncMemoryTransport, "asyncio"),
    Runner("memory-trio", AsyncMemoryTransport, "trio"),
)
"""Made with the fake that they reach."""


@contextlib.contextmanager
def fails(phase: Phase, text: str = "", *, timed_out: bool = False) -> Iterator[Any]:
    with pytest.raises(TransportFailure, match=text or None) as caught:
        yield caught
    assert (caught.value.phase, caught.value.timed_out) == (phase, timed_out), caught.value


def get(server: Any, path: str = "/", **headers: str) -> Request:
    return Request("GET", f"{server.url}{path}", Headers(headers))


def post(server: Any, body: bytes = b"{}", **headers: str) -> Request:
    return Request("POST", f"{server.url}/things", Headers(headers), body)


@contextlib.contextmanager
def full_listener() -> Iterator[str]:
    """The URL of a server that neither accepts nor refuses a connection: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        time.sleep(0.05)  # until the backlog knows
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
