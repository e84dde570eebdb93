"""A `requests` adapter that carries nothing but what the transport gave it.

It knows whom to trust (one TLS context), by which proxies to go, and nothing of sessions: no
cookie, credential or environment comes in by it.
"""

from __future__ import annotations

import ssl
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Union, cast
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, ProxyManager
from urllib3.exceptions import LocationValueError
from urllib3.util import Retry

from flowmaestro_transports.http11.proxies import Proxies, Proxy
from flowmaestro_transports.requests.connection import use_our_pools
from flowmaestro_transports.requests.interrupt import AtHand

_PORTS = {"http": 80, "https": 443}
_MAX_ORIGINS = 256
_NEVER_AGAIN = Retry(0, read=False)
"""What requests has by default; shared, since urllib3 takes long to make one."""


class _Untouched:
    """A context that is not ours: urllib3 must not set the protocols that it offers."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_alpn_protocols(self, protocols: object) -> None:
        pass


class _Response(requests.Response):
    """What requests wants back, without a cookie jar and the rest that nobody looks at."""

    def __init__(self, raw: Any) -> None:
        self.status_code = raw.status
        self.raw = raw
        self._content_consumed = False


class _Route(NamedTuple):
    """How requests get to one origin."""

    pool: HTTPConnectionPool
    absolute: bool
    """Whether a proxy forwards them, and is told the whole URL (RFC 9112, 3.2.2)."""


class ReplyAdapter(HTTPAdapter):
    """Sends with `context` for TLS, by way of `proxies`, and keeps at most `connections` idle
    per origin.

    The `timeout` of `send` must be `AttemptLimits`. It answers with a `requests.Response` that
    carries no more than status and `raw`: no cookie is looked at. Nothing is retried. What is
    sent while a lever is `at_hand` can be cut short with it.
    """

    def __init__(
        self, context: ssl.SSLContext, proxies: Proxies, connections: int, at_hand: AtHand
    ) -> None:
        self._context = _Untouched(context)
        self._proxies = proxies
        self._at_hand = at_hand
        self._connections = connections
        self._routes: Dict[str, _Route] = {}
        super().__init__(_MAX_ORIGINS, connections, max_retries=_NEVER_AGAIN)

    @property
    def holds_connections(self) -> bool:
        """Whether any is kept for later calls."""
        pools: List[Any] = [route.pool.pool for route in self._routes.values()]
        return any(idle is not None and idle.qsize() for idle in pools)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        """Called by requests: makes the pools' manager."""
        cast("Any", super()).init_poolmanager(
            connections, maxsize, block, ssl_context=self._context, **options
        )
        use_our_pools(self.poolmanager, self._at_hand)

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Union[bool, str, None],
        proxies: Optional[Mapping[str, str]] = None,
        cert: Any = None,
    ) -> HTTPConnectionPool:
        """Called by requests from 2.32.2 on: the pool for the request's origin."""
        return self.get_connection(request.url or "", proxies)

    def get_connection(
        self, url: Union[str, bytes], proxies: Optional[Mapping[str, str]] = None
    ) -> HTTPConnectionPool:
        """Called by older versions of requests for the same."""
        return self._route(str(url)).pool

    def request_url(
        self, request: requests.PreparedRequest, proxies: Optional[Mapping[str, str]]
    ) -> str:
        """Called by requests: the target in the request line."""
        url = request.url or ""
        return url if self._route(url).absolute else request.path_url

    def close(self) -> None:
        """Closes the connections that are idle; those in use follow when they are given back.

        requests leaves this to the collection of its pools, and an error that somebody keeps
        keeps its pool.
        """
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            pools: Any = manager.pools
            for pool in filter(None, map(pools.get, pools.keys())):
                pool.close()
        cast("Any", super()).close()

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Called by requests; the context has it all, and is not to be changed."""

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Called by requests: wraps what urllib3 answered."""
        return _Response(resp)

    def _route(self, url: str) -> _Route:
        origin = origin_of(url)
        route = self._routes.get(origin)
        if route is None:
            if len(self._routes) >= _MAX_ORIGINS:  # urllib3 closes pools beyond so many, too
                self._routes.clear()
            route = self._routes[origin] = self._new_route(origin)
        return route

    def _new_route(self, origin: str) -> _Route:
        address = urlsplit(origin)
        scheme, host = address.scheme, address.hostname
        if scheme not in _PORTS or not host:
            raise LocationValueError("the URL is not http:// or https:// with a host")
        port = address.port or _PORTS[scheme]
        proxy = self._proxies.proxy_for(scheme, host, port)
        manager = self.poolmanager if proxy is None else self._manager_behind(proxy)
        pool: HTTPConnectionPool = manager.connection_from_host(host, port, scheme)
        return _Route(pool, absolute=proxy is not None and scheme == "http")

    def _manager_behind(self, proxy: Proxy) -> ProxyManager:
        managers: Dict[Proxy, ProxyManager] = self.proxy_manager
        manager = managers.get(proxy)
        if manager is None:
            context = cast("ssl.SSLContext", self._context)
            manager = managers[proxy] = ProxyManager(
                proxy.url,
                num_pools=_MAX_ORIGINS,
                proxy_headers=(
                    {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
                ),
                proxy_ssl_context=context if proxy.scheme == "https" else None,
                ssl_context=context,
                maxsize=self._connections,
            )
            use_our_pools(manager, self._at_hand)
        return manager


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, as they are written there."""
    return "/".join(url.split("/", 3)[:3])
