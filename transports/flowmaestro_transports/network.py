"""The base class of the transports that speak HTTP/1.1 themselves.

May touch: the environment, certificate files.
"""

from __future__ import annotations

from typing import Optional, Tuple

from flowmaestro_core.arguments import check_count, check_seconds
from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.routes import Routes
from flowmaestro_transports.http11.tls import ClientCert, Verify, tls_when_needed
from flowmaestro_transports.primitives.fork_guard import NotPicklable
from flowmaestro_transports.primitives.slots import MAX_CONNECTIONS

KEEPALIVE_EXPIRY = 50.0
"""Seconds for which an idle connection may be reused: less than the 60 s after which load balancers
drop one, often silently."""


class NetworkTransport(NotPicklable):
    """The base of a transport that makes its own connections.

    It checks and stores the arguments for proxies, TLS and connections.
    """

    bounds_replies = True

    def __init__(
        self,
        *,
        verify: Verify = True,
        client_cert: Optional[ClientCert] = None,
        proxy: Optional[str] = None,
        trust_env: bool = True,
        max_connections: int = MAX_CONNECTIONS,
        keepalive_expiry: float = KEEPALIVE_EXPIRY,
    ) -> None:
        check_count("max_connections", max_connections)
        check_seconds("keepalive_expiry", keepalive_expiry)
        self._max_connections = max_connections
        self._keepalive_expiry = keepalive_expiry
        try:
            self._tls = tls_when_needed(verify, client_cert, trust_env=trust_env)
        except Exception as error:
            client_cert = None  # its password would be shown with the locals of the frames
            raise error.with_traceback(None) from error.__cause__
        proxies = Proxies(proxy, trust_env=trust_env)
        self._routes = Routes(proxies)
        self.secrets: Tuple[str, ...] = proxies.secrets
        """The credentials that it sends to its proxies. Errors do not show them."""
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        """Do nothing. A subclass that needs it makes its pools of connections here."""
