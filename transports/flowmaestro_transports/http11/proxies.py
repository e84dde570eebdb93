"""The choice of the proxy for an origin, for the transports that make their own connections.

May touch: the environment, once for each `Proxies`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from contextlib import suppress
from typing import Dict, List, NamedTuple, Optional, Tuple, Union
from urllib.parse import unquote, urlsplit

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_core.http.secrets import SHORTEST_SECRET
from flowmaestro_core.http.urls import can_be_host
from flowmaestro_transports.http11.hosts import ascii_host

_PORTS = {"http": 80, "https": 443}

_Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Proxy(NamedTuple):
    """An HTTP proxy.

    Attributes:
        scheme: `http`, or `https` if the connection to the proxy itself uses TLS.
        host: its name or address, an IPv6 address without brackets.
        port: its TCP port.
        authorization: the value of `Proxy-Authorization` (RFC 7617), for the proxy alone; `None`
            without credentials. Never shown in a repr.

    """

    scheme: str
    host: str
    port: int
    authorization: Optional[str] = None

    def __repr__(self) -> str:
        return f"<Proxy {self.url}>"

    @property
    def url(self) -> str:
        """Scheme, host and port of the proxy, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class Proxies:
    """The proxies of one transport, read when it is made.

    `proxy` is the URL of the proxy for every origin, `http://user:password@host:3128` or
    `https://...`; `NO_PROXY` is then ignored. Without `proxy`, and with `trust_env`, these
    variables of the environment decide, in lower case or else in upper case:

    * `http_proxy`, `https_proxy` and, if the variable of the scheme is missing or empty,
      `all_proxy`. A proxy without a scheme is `http://`. `HTTP_PROXY` in upper case is ignored
      under CGI (`REQUEST_METHOD` is set), where a client of the server can set it ("httpoxy").
    * `no_proxy`: origins to connect to directly, separated by commas or white space. `*` means all;
      `example.com` (or `.example.com`, `*.example.com`) means that host and its subdomains;
      `10.0.0.0/8` and `::1` mean addresses. Each may end in a `:port`, an IPv6 address then in
      brackets. Names are not resolved. Loopback addresses are not exempt by themselves: list them.

    The settings of an operating system (the registry of Windows, the network pane of macOS) are
    ignored. Raises `TypeError` or `ValueError` for an invalid proxy URL, naming the argument or the
    variable, never its value. SOCKS is not supported: as `proxy` it raises `ValueError`; in the
    environment it is an error only for a call that needs this proxy (`proxy_for`).
    """

    def __init__(self, proxy: Optional[str] = None, *, trust_env: bool = True) -> None:
        # A text says why there is no proxy that can be used.
        self._by_scheme: Dict[str, Union[Proxy, str]] = {}
        self._exempt: List[_Exemption] = []
        if proxy is not None:
            self._by_scheme = dict.fromkeys(_PORTS, _parse("proxy", proxy))
        elif trust_env:
            self._read_environment()

    def proxy_for(self, scheme: str, host: str, port: int) -> Optional[Proxy]:
        """Return the proxy for `scheme://host:port`, or None for a direct connection.

        `host` is a name or an address, an IPv6 address without brackets. Raises `TransportFailure`
        (*not sent*) if the environment names a SOCKS proxy for this origin.
        """
        proxy = self._by_scheme.get(scheme)
        if proxy is not None and self._exempt:
            host = host.lower().rstrip(".")
            proxy = None if any(each.covers(host, port) for each in self._exempt) else proxy
        if isinstance(proxy, str):
            raise TransportFailure(Phase.NOT_SENT, proxy, permanent=True)
        return proxy

    @property
    def secrets(self) -> Tuple[str, ...]:
        """The credentials of the proxies, as `credentials` returns them."""
        proxies = [each for each in self._by_scheme.values() if isinstance(each, Proxy)]
        sent = [proxy.authorization for proxy in proxies if proxy.authorization]
        return tuple(secret for text in sent for secret in _credentials_in(text))

    def _read_environment(self) -> None:
        settings = {source: _setting(source) for source in (*_PORTS, "all")}
        for scheme in _PORTS:
            source = scheme if settings[scheme] else "all"
            if settings[source]:
                variable = f"the environment variable {source.upper()}_PROXY"
                try:
                    self._by_scheme[scheme] = _parse(variable, settings[source])
                except _SocksError as error:
                    self._by_scheme[scheme] = str(error)
        if self._by_scheme:
            found = map(_Exemption, re.split(r"[,\s]+", _setting("no")))
            self._exempt = [each for each in found if each.pattern]


def basic(user: str, password: str, encoding: str = "utf-8") -> str:
    """Return the value of `Proxy-Authorization` (RFC 7617)."""
    import base64  # Only a proxy with a password needs it.

    return "Basic " + base64.b64encode(f"{user}:{password}".encode(encoding)).decode("ascii")


def credentials(user: str, password: str) -> Tuple[str, ...]:
    """Return the secrets that a value of `Proxy-Authorization` for this user holds.

    They are the value itself and its token, in UTF-8 as we send them and in Latin-1 as requests and
    aiohttp do, and the password. If there is no password, the user name takes its place. Texts with
    fewer than `SHORTEST_SECRET` characters are left out.
    """
    values = {basic(user, password)}
    with suppress(UnicodeEncodeError):
        values.add(basic(user, password, "latin-1"))
    found = (*values, *(value.partition(" ")[2] for value in values), password or user)
    return tuple(text for text in found if len(text) >= SHORTEST_SECRET)


def _credentials_in(authorization: str) -> Tuple[str, ...]:
    import base64

    user, _, password = base64.b64decode(authorization.partition(" ")[2]).decode().partition(":")
    return credentials(user, password)


def _setting(name: str) -> str:
    """Return the value of `name_proxy`, even if it is empty; else of `NAME_PROXY`; else `""`.

    Under CGI, `HTTP_PROXY` is left out. `urllib.request` has a function for this, but it imports
    `http.client`, `email` and more.
    """
    # On Windows, the two names are the same variable.
    if name == "http" and "REQUEST_METHOD" in os.environ:
        return "" if os.name == "nt" else os.environ.get("http_proxy", "")
    return os.environ.get(f"{name}_proxy", os.environ.get(f"{name.upper()}_PROXY", ""))


class _SocksError(ValueError):
    """The URL names a SOCKS proxy, which is not supported."""


class _Exemption:
    """One entry of `NO_PROXY`: the hosts and ports that it exempts."""

    def __init__(self, text: str) -> None:
        self.pattern, self._port = _split_port(text.lower())
        self._network: Optional[_Network] = None
        try:
            self._network = ipaddress.ip_network(self.pattern, strict=False)
        except ValueError:
            if self.pattern != "*":
                self.pattern = self.pattern.lstrip("*.").rstrip(".")

    def covers(self, host: str, port: int) -> bool:
        if self._port is not None and self._port != port:
            return False
        if self._network is not None:
            try:
                return ipaddress.ip_address(host) in self._network
            except ValueError:
                return False
        return self.pattern == "*" or f".{host}".endswith(f".{self.pattern}")


def _split_port(text: str) -> Tuple[str, Optional[int]]:
    """Split `host`, `host:`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.

    Return the host and its port, None for any port.
    """
    host, colon, port = text.rpartition(":")
    bare_v6 = ":" in host and not host.endswith("]")
    if not colon or bare_v6 or not (port.isdecimal() or not port):
        return text.strip("[]"), None
    return host.strip("[]"), int(port) if port else None


def _parse(name: str, url: object) -> Proxy:
    """Return the proxy that `url` describes.

    Raises `TypeError` or `ValueError`, which call the URL `name`, and do not quote it.
    """
    if not isinstance(url, str):
        raise TypeError(f"{name} must be the URL of a proxy as a str, not {type(url).__name__}")
    bad = ValueError(f"{name} must be the URL of a proxy such as http://user:password@host:3128")
    found = None
    with suppress(ValueError):  # It must not be chained: it may quote the password.
        url.encode()
        parts = urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
        found = parts, parts.port
    if found is None:
        raise bad
    parts, port = found
    if parts.scheme not in _PORTS:
        if parts.scheme.startswith("socks"):
            raise _SocksError(f"{name}: SOCKS is not supported, only http:// and https:// proxies")
        raise bad
    host = parts.hostname or ""
    with suppress(TransportFailure):
        host = ascii_host(host)
    if not host.isascii() or not can_be_host(host) or port == 0 or re.search(r"[\s%]", host):
        raise bad
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise bad
    if parts.username is None:
        authorization = None
    else:
        user, password = unquote(parts.username), unquote(parts.password or "")
        if ":" in user:
            raise ValueError(f"{name}: a user name cannot hold a colon (RFC 7617, 2)")
        authorization = basic(user, password)
    return Proxy(parts.scheme, host, port or _PORTS[parts.scheme], authorization)
