"""Where a URL leads on an anyio connection: straight to its origin, or by way of a proxy."""

from __future__ import annotations

import re
from typing import Dict, NamedTuple, Optional, Tuple, Union
from urllib.parse import urlsplit

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.http11.proxies import Proxies, Proxy

Fields = Tuple[Tuple[str, str], ...]

_URL = re.compile(r"(https?://[^/?#]+)([^#]*)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_MAX_ROUTES = 256


class Origin(NamedTuple):
    """Where a request goes (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110, 7.2): no port where it is the scheme's own."""
        return self._ascii_host if self.port == _PORTS[self.scheme] else self.host_and_port

    @property
    def host_and_port(self) -> str:
        """The target of a CONNECT (RFC 9110, 9.3.6): always with the port."""
        return f"{self._ascii_host}:{self.port}"

    @property
    def _ascii_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode()


class Route(NamedTuple):
    """How requests get to an origin.

    Attributes:
        origin: where they go.
        proxy: by whom, None for straight on.
        key: what the connections that may carry them have in common: the origin, also behind
            a tunnel; the proxy, where it forwards plain requests to any origin.
        prefix: what stands before the path in the target: the origin where a proxy forwards
            (the absolute form, RFC 9112, 3.2.2), else nothing.
        fields: header fields that requests on this route need, should they not have them.

    """

    origin: Origin
    proxy: Optional[Proxy]
    key: Union[Origin, Proxy]
    prefix: str
    fields: Fields


class Routes:
    """The routes of one transport, each found out once."""

    def __init__(self, proxies: Proxies) -> None:
        self._proxies = proxies
        self._known: Dict[str, Route] = {}

    def find(self, url: str) -> Tuple[Route, str]:
        """The route for `url`, and the target of its request (RFC 9112, 3.2).

        Raises `TransportFailure` for a URL that is not one of HTTP.
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
            host = ("Host", origin.authority)
        except ValueError:  # UnicodeError is one
            raise _bad_url() from None
        proxy = self._proxies.proxy_for(*origin)
        if proxy is None or origin.scheme == "https":
            return Route(origin, proxy, origin, "", (host,))
        return Route(origin, proxy, proxy, f"http://{host[1]}", (host, *credentials(proxy)))


def credentials(proxy: Proxy) -> Fields:
    """The header fields by which `proxy` knows its user."""
    if proxy.authorization is None:
        return ()
    return (("Proxy-Authorization", proxy.authorization),)


def _parse_origin(start: str) -> Origin:
    parts = urlsplit(start)
    if not parts.hostname or "@" in parts.netloc:
        raise ValueError
    return Origin(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])


def _bad_url() -> TransportFailure:
    # Without the URL, which may hold a password.
    return TransportFailure(Phase.NOT_SENT, "the URL is not http:// or https:// with a host")
