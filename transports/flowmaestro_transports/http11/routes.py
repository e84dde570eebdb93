"""Routes: a request goes directly to the origin of its URL, or through a proxy.

A proxy forwards http requests itself. For https it opens a tunnel, and TLS with the origin goes
through this tunnel. Pure, except that `proxies` reads the environment.
"""

from __future__ import annotations

import re
from typing import Dict, Hashable, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from flowmaestro_core.http.messages import Headers, Phase, TransportFailure
from flowmaestro_core.http.urls import can_be_host
from flowmaestro_transports.http11.exchange import RequestWriter
from flowmaestro_transports.http11.hosts import ascii_host
from flowmaestro_transports.http11.proxies import Proxies, Proxy

_URL = re.compile(r"(https?://[^/?#]+)([^#]*)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_MAX_ROUTES = 256
"""A client has one route, or one for each server that its transport is shared for. A program that
makes a client for each of thousands of servers must not grow without bound."""


class Origin(NamedTuple):
    """The origin of a URL (RFC 6454): scheme, host and port."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110, 7.2).

        It has no port if that is the default of the scheme.
        """
        return self._ascii_host if self.port == _PORTS[self.scheme] else self.host_and_port

    @property
    def host_and_port(self) -> str:
        """The target of a CONNECT (RFC 9110, 9.3.6): always with the port."""
        return f"{self._ascii_host}:{self.port}"

    @property
    def _ascii_host(self) -> str:
        host = self.host
        if ":" in host:
            host = host.partition("%")[0]  # A scope has a meaning only on this host.
        return f"[{host}]" if ":" in host else host


class Route:
    """The route of requests to `origin`: directly, or through `proxy`.

    Attributes:
        key: identifies the connections that may carry the requests. The key is the proxy if a proxy
            forwards the requests itself, to an http origin. Otherwise (directly, or through a
            tunnel) the key is the origin.
        first_hop: scheme, host and port to connect to.
        is_tunnel: whether the proxy must open a tunnel to the origin.
        credentials: the header fields that authenticate the user to the proxy, if any.
        prefix: what the target of a request has before its path (RFC 9112, 3.2): `""`, or the
            origin if a proxy forwards the request.
        writer: writes the requests.

    """

    def __init__(self, origin: Origin, proxy: Optional[Proxy]) -> None:
        self.origin = origin
        self.proxy = proxy
        self.key: Hashable = origin
        self.first_hop: Tuple[str, str, int] = origin
        self.is_tunnel: bool = False
        self.credentials: Headers = Headers()
        fields = Headers((("Host", origin.authority),))
        self.prefix: str = ""
        if proxy is not None:
            self.first_hop = proxy.scheme, proxy.host, proxy.port
            self.is_tunnel = origin.scheme == "https"
            if proxy.authorization is not None:
                self.credentials = Headers((("Proxy-Authorization", proxy.authorization),))
            if not self.is_tunnel:
                self.key = proxy
                fields = Headers(fields.pairs + self.credentials.pairs)
                self.prefix = f"http://{origin.authority}"
        self.writer: RequestWriter = RequestWriter(fields)


class Routes:
    """The routes of one transport: direct, or through a proxy.

    Up to 256 of them are cached. Threads may share this object.
    """

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._known: Dict[str, Route] = {}

    def find(self, url: str) -> Tuple[Route, str]:
        """Return the route for `url`, and the target of its request.

        Raises `TransportFailure` for a URL that is neither http nor https, has no valid host and
        port, or has a user name. Also raises it if the environment names a SOCKS proxy for the URL.
        """
        match = _URL.match(url)
        if match is None:
            raise _bad_url()
        start, path = match.groups()
        route = self._known.get(start)
        if route is None:
            if len(self._known) >= _MAX_ROUTES:
                self._known.clear()
            route = self._known[start] = self._route(start)
        return route, route.prefix + (path if path.startswith("/") else "/" + path)

    def _route(self, start: str) -> Route:
        try:
            origin = _parse_origin(start)
            proxy = self._proxies.proxy_for(*origin)
            return Route(origin, proxy)
        except ValueError:
            raise _bad_url() from None


def _parse_origin(start: str) -> Origin:
    parts = urlsplit(start)
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError
    host = parts.hostname
    if ":" in host:
        host = host.replace("%25", "%")  # `%25` stands before a scope (RFC 6874).
    elif not can_be_host(host := ascii_host(host)):
        raise ValueError
    return Origin(parts.scheme, host, parts.port or _PORTS[parts.scheme])


def _bad_url() -> TransportFailure:
    # Without the URL, which may hold a password.
    return TransportFailure(Phase.NOT_SENT, "the URL is not http:// or https:// with a host")
