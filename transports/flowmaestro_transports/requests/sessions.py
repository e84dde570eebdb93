"""The sessions that carry the calls: one of the caller's, or some of ours.

A session of ours serves one call at a time, and is thrown away when the call fails: an exception
of a signal handler may have left the locks of its pools held.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Dict, List, Mapping, Tuple
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar
from urllib3.util import Retry

from flowmaestro_transports.contract import IDLE_SECONDS
from flowmaestro_transports.http11.proxies import Proxies

Settings = Mapping[str, Any]
"""`verify`, `cert` and `proxies`, as `Session.send` takes them."""

_PORTS = {"http": 80, "https": 443}
_MAX_ORIGINS = 256
_NEVER_AGAIN = Retry(0, read=False)


class CallersSession:
    """One session that is not ours: neither changed nor closed."""

    holds_connections = False

    def __init__(self, session: requests.Session) -> None:
        self._session = session
        self._given_up: List[Any] = []

    def take(self) -> requests.Session:
        """The session, whose pools know of every connection that is gone by now."""
        while self._given_up:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._given_up.pop().release_conn()
        return self._session

    def settings(self, url: str) -> Settings:
        """What the session and its environment say."""
        return self._session.merge_environment_settings(url, {}, True, None, None)

    def give_back(self, session: requests.Session, connection: Any) -> None:
        """The body was read to its end: the connection is in its pool already."""

    def give_up(self, session: requests.Session, raw: Any, connection: Any) -> None:
        """The connection of `raw` is closed; a pool that blocks has to make room for another.

        It hears of that with the next call: this may be the garbage collector, called while this
        thread holds the lock of that pool.
        """
        if hasattr(raw, "release_conn"):
            self._given_up.append(raw)

    def close(self) -> None:
        """Leave it open."""


class OwnSessions:
    """As many sessions as there are calls at once; at most `keep` stay when they are idle."""

    def __init__(self, context: ssl.SSLContext, proxies: Proxies, keep: int) -> None:
        self._context = context
        self._proxies = proxies
        self._keep = keep
        self._idle: List[Tuple[float, requests.Session, Any]] = []
        self._settings: Dict[str, Settings] = {}
        self._authorizations: Dict[str, str] = {}
        self._closed = False

    @property
    def holds_connections(self) -> bool:
        """Whether any is kept for later calls."""
        return bool(self._idle)

    def take(self) -> requests.Session:
        """The one that was used last, unless that was too long ago; else a new one."""
        while True:
            try:
                idle_since, session, connection = self._idle.pop()
            except IndexError:
                return self._new()
            if time.monotonic() - idle_since <= IDLE_SECONDS:
                return session
            _close(session, connection)

    def settings(self, url: str) -> Settings:
        """The proxy for the origin of `url`; whom to trust, the adapter knows."""
        origin = "/".join(url.split("/", 3)[:3])
        settings = self._settings.get(origin)
        if settings is None:
            if len(self._settings) >= _MAX_ORIGINS:
                self._settings.clear()
            address = urlsplit(origin)
            port = address.port or _PORTS.get(address.scheme, 0)
            proxy = self._proxies.proxy_for(address.scheme, address.hostname or "", port)
            proxies = {}
            if proxy is not None:
                # the two of http and https may be one with two names of users
                proxies = {"all": proxy.url.replace("://", f"://{address.scheme}@", 1)}
                if proxy.authorization is not None:
                    self._authorizations[proxies["all"]] = proxy.authorization
            settings = {"verify": True, "cert": None, "proxies": proxies}
            self._settings[origin] = settings
        return settings

    def give_back(self, session: requests.Session, connection: Any) -> None:
        """Keep it for later calls."""
        if self._closed or len(self._idle) >= self._keep:
            _close(session, connection)
        else:
            self._idle.append((time.monotonic(), session, connection))

    def give_up(self, session: requests.Session, raw: Any, connection: Any) -> None:
        """Never use it again."""
        _close(session, connection)

    def close(self) -> None:
        """Close those that are idle; the others follow when they are returned."""
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                _close(*self._idle.pop()[1:])

    def _new(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        session.cookies = RequestsCookieJar(policy=DefaultCookiePolicy(allowed_domains=()))
        adapter = _Adapter(self._context, self._authorizations)
        for scheme in _PORTS:
            session.mount(f"{scheme}://", adapter)
        return session


def _close(session: requests.Session, connection: Any) -> None:
    """Close a session, and its connection, which it leaves to the collection of its pool.

    An exception that somebody keeps may keep the reply in its frames, and the reply its pool.
    """
    session.close()
    if connection is not None:
        connection.close()


class _Untouched:
    """A context that is not ours: urllib3 must not set the protocols that it offers."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def set_alpn_protocols(self, protocols: object) -> None:
        pass


class _Adapter(HTTPAdapter):
    """One TLS context decides whom to trust, and our policy what a proxy gets to see."""

    def __init__(self, context: ssl.SSLContext, authorizations: Mapping[str, str]) -> None:
        self._context = _Untouched(context)
        self._authorizations = authorizations
        super().__init__(max_retries=_NEVER_AGAIN)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        up: Any = super()  # older stubs of requests leave its methods untyped
        up.init_poolmanager(*args, ssl_context=self._context, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        if proxy.startswith("https:"):
            options["proxy_ssl_context"] = self._context
        up: Any = super()
        return up.proxy_manager_for(proxy, ssl_context=self._context, **options)

    def proxy_headers(self, proxy: str) -> Dict[str, str]:
        authorization = self._authorizations.get(proxy)
        return {} if authorization is None else {"Proxy-Authorization": authorization}

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Tuple[Any, Any]:
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        pass
