"""How a connection comes about: straight to its origin, or by way of a proxy.

A proxy forwards plain requests itself. For https it opens a tunnel (CONNECT, RFC 9110, 9.3.6),
and TLS with the origin goes through that. Only the proxy sees the proxy's credentials.
"""

from __future__ import annotations

import ssl
from typing import Callable

import h11

from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports.anyio.connection import Connection
from flowmaestro_transports.anyio.routes import Origin, Route, credentials
from flowmaestro_transports.anyio.socket import Socket, TlsSocket
from flowmaestro_transports.anyio.tcp import connect_tcp
from flowmaestro_transports.anyio.tls import start_tls
from flowmaestro_transports.http11.proxies import Proxy

_CONNECT = Request("CONNECT", "", Headers())


async def connect(route: Route, tls: Callable[[], ssl.SSLContext]) -> Socket:
    """A new connection for requests on `route`; `tls` gives the context for origin and proxy.

    Raises `OSError` (`ssl.SSLError` is one, a name that does not resolve, and a tunnel that the
    proxy refuses), and `ValueError` for a name that cannot be one.
    """
    origin, proxy = route.origin, route.proxy
    if proxy is None:
        return await _reach(*origin, tls)
    try:
        sock = await _reach(proxy.scheme, proxy.host, proxy.port, tls)
        if origin.scheme == "https":
            await _open_tunnel(sock, origin, proxy)
    except (OSError, ValueError, h11.RemoteProtocolError) as error:
        raise ConnectionError(f"proxy {proxy.url}: {error}") from error
    if origin.scheme == "https":
        return TlsSocket(await start_tls(sock.wire, tls(), origin.host))
    return sock


async def _reach(scheme: str, host: str, port: int, tls: Callable[[], ssl.SSLContext]) -> Socket:
    wire = await connect_tcp(host, port)
    if scheme == "https":
        return TlsSocket(await start_tls(wire, tls(), host))
    return Socket(wire)


async def _open_tunnel(sock: Socket, origin: Origin, proxy: Proxy) -> None:
    target = origin.host_and_port
    fields = (("Host", target), *credentials(proxy))
    try:
        head = await Connection(sock, proxy).exchange(_CONNECT, target, fields)
        if not 200 <= head.status < 300:
            raise ConnectionRefusedError(f"CONNECT was answered with status {head.status}")
    except BaseException:
        sock.close()
        raise
