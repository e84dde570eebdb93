"""A SOCKS5 proxy (RFC 1928) without authentication, for clients that leave names to it."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Iterator, List, Tuple

from flowmaestro.testing.conformance.scripted_server import Peer, ScriptedServer
from tests.harness.transports.real_proxy import relay

_SUCCEEDED = b"\x05\x00\x00\x01" + bytes(6)
_NAME = 3


@contextlib.contextmanager
def socks_proxy() -> Iterator[Tuple[str, List[Tuple[str, int]]]]:
    """Run the proxy. Yield its host and port, and the list of what it was asked to connect to."""
    asked: List[Tuple[str, int]] = []

    def handler(peer: Peer) -> None:
        said = peer.sock.makefile("rb")
        _, methods = said.read(2)
        said.read(methods)
        peer.send(b"\x05\x00")
        *_, kind = said.read(4)
        assert kind == _NAME
        host = said.read(said.read(1)[0]).decode()
        (port,) = struct.unpack(">H", said.read(2))
        asked.append((host, port))
        with socket.create_connection((host, port)) as upstream, contextlib.suppress(OSError):
            peer.send(_SUCCEEDED)
            relay(peer.sock, upstream)

    with ScriptedServer(handler) as server:
        yield f"127.0.0.1:{server.port}", asked
