"""A SOCKS5 proxy (RFC 1928) without authentication, for one test."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from typing import Iterator, List, Tuple

_SUCCEEDED = b"\x05\x00\x00\x01" + bytes(6)
_NAME, _IPV4 = 3, 1


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        _, methods = self.rfile.read(2)
        self.rfile.read(methods)
        self.wfile.write(b"\x05\x00")
        _, _, _, kind = self.rfile.read(4)
        if kind == _NAME:
            host = self.rfile.read(self.rfile.read(1)[0]).decode()
        else:
            assert kind == _IPV4
            host = socket.inet_ntoa(self.rfile.read(4))
        (port,) = struct.unpack(">H", self.rfile.read(2))
        self.server.asked.append((host, port))  # type: ignore[attr-defined]
        with socket.create_connection((host, port)) as upstream:
            self.wfile.write(_SUCCEEDED)
            back = threading.Thread(target=_copy, args=(upstream, self.connection))
            back.start()
            _copy(self.connection, upstream)
            back.join()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(1 << 16)
            if not data:
                break
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def socks_proxy() -> Iterator[Tuple[str, List[Tuple[str, int]]]]:
    """Run the proxy. Yield its host and port, and the list of what it was asked to connect to."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads, server.asked = True, []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", server.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
