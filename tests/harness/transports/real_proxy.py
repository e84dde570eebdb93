"""A handler of the scripted server that makes it a proxy: it forwards, and it opens tunnels."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
HOP_BY_HOP = {"proxy-authorization", "connection", "proxy-connection"}


def proxy(peer: Any) -> None:
    while True:
        request = peer.read_request()
        if request is None:
            return
        if request.method == "CONNECT":
            _tunnel(peer, request.target)
            return
        peer.send(_forwarded(request))


def _forwarded(request: Any) -> bytes:
    url = urlsplit(request.target)
    assert url.hostname, f"{request.target} is not in absolute form"
    upstream = http.client.HTTPConnection(url.hostname, url.port, timeout=5)
    with contextlib.closing(upstream):
        target = url._replace(scheme="", netloc="").geturl()
        fields = {name: text for name, text in request.headers if name.lower() not in HOP_BY_HOP}
        upstream.request(request.method, target or "/", request.body or None, fields)
        response = upstream.getresponse()
        body = response.read()
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%s" % (response.status, len(body), body)


def _tunnel(peer: Any, target: str) -> None:
    host, _, port = target.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port))) as upstream:
        peer.send(ESTABLISHED)
        with contextlib.suppress(OSError, ValueError):
            relay(peer.sock, upstream)
        for end in (peer.sock, upstream):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(end, socket.SHUT_RDWR)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Send to each socket what the other receives, until one of them ends.

    One thread does both directions: before Python 3.13, an `ssl.SSLSocket` that one thread reads
    while another writes can fail.
    """
    sinks = {one: other, other: one}
    while True:
        # TLS may hold decrypted bytes, for which the socket is not readable.
        ready = [each for each in sinks if isinstance(each, ssl.SSLSocket) and each.pending()]
        for source in ready or select.select(list(sinks), [], [])[0]:
            data = source.recv(65536)
            if not data:
                return
            sinks[source].sendall(data)
