"""TLS records that arrive while a connection is idle: what they make of its next request."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from typing import Any, List

import pytest

from flowmaestro_transports.http11.tls_wire import TlsWire
from flowmaestro_transports.http11.wire import Wire
from tests.harness.runners import OURS, Runner, get


class RecordPeer:
    """The server's end of TLS over the socket of a `Peer`, record by record."""

    def __init__(self, peer: Any, context: ssl.SSLContext) -> None:
        self._sock = peer.sock
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=True)
        self._step(self._tls.do_handshake)

    def read_request(self) -> bytes:
        """Return one request without a body, or `b""` once the client has closed."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            try:
                piece = self._step(lambda: self._tls.read(65536))
            except ssl.SSLError:
                return b""
            data += piece
        return data

    def record(self, content: bytes) -> bytes:
        """Return the bytes of the record that carries `content`."""
        self._tls.write(content)
        return self._leaving.read()

    def _step(self, step: Any) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                result = None
            if self._leaving.pending:
                self._sock.sendall(self._leaving.read())
            if result is not None or (step == self._tls.do_handshake and self._tls.version()):
                return result
            data = self._sock.recv(65536)
            if not data:
                self._arrived.write_eof()
            self._arrived.write(data)


@pytest.fixture(params=OURS, ids=str)
def runner(request: pytest.FixtureRequest) -> Runner:
    """Each transport that reads and writes HTTP itself."""
    made: Runner = request.param
    return made


@pytest.mark.parametrize("cut", [1, 5, 6, -1], ids=lambda cut: f"cut at {cut}")
@pytest.mark.parametrize("together", [False, True], ids=["while idle", "with the response"])
def test_partial_record_on_an_idle_connection_makes_it_unfit(
    runner: Runner,
    scripted: Any,
    server_tls: ssl.SSLContext,
    ca_file: str,
    monkeypatch: pytest.MonkeyPatch,
    cut: int,
    together: bool,
) -> None:
    """The rest of it, sent after the next request, is not taken for the response to that."""

    def is_silent_once_readable(wire: Wire) -> bool:
        if not together:  # what was sent may take a moment to arrive
            select.select([wire.sock], [], [], 60)
        return is_silent(wire)

    is_silent = Wire.is_silent
    monkeypatch.setattr(Wire, "is_silent", is_silent_once_readable)
    may_send, was_sent = threading.Event(), threading.Event()
    requests: List[bytes] = []

    def handler(peer: Any) -> None:
        tls = RecordPeer(peer, server_tls)
        requests.append(tls.read_request())
        if peer.number:
            peer.sock.sendall(tls.record(scripted.reply(b"true")))
            return
        first, stray = tls.record(scripted.reply(b"first")), tls.record(scripted.reply(b"stray"))
        if together:
            peer.sock.sendall(first + stray[:cut])
        else:
            peer.sock.sendall(first)
            may_send.wait(60)
            peer.sock.sendall(stray[:cut])
            was_sent.set()
        if tls.read_request():  # the client took the connection for idle
            peer.sock.sendall(stray[cut:])

    with scripted.ScriptedServer(handler) as server, runner(verify=ca_file) as transport:
        server.url = server.url.replace("http:", "https:")
        assert transport.send(get(server)).body == b"first"
        may_send.set()
        assert together or was_sent.wait(60)
        assert transport.send(get(server)).body == b"true"
    assert server.connections == 2


def test_connection_between_records_is_used_again(
    runner: Runner, scripted: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    """Whatever the number and the size of the records of a response."""

    def handler(peer: Any) -> None:
        tls = RecordPeer(peer, server_tls)
        while tls.read_request():
            whole = scripted.reply(bytes(50_000))
            records = [tls.record(whole[at : at + 3000]) for at in range(0, len(whole), 3000)]
            data = b"".join(records)
            for at in range(0, len(data), 4093):
                peer.sock.sendall(data[at : at + 4093])

    with scripted.ScriptedServer(handler) as server, runner(verify=ca_file) as transport:
        server.url = server.url.replace("http:", "https:")
        for _ in range(3):
            assert transport.send(get(server)).body == bytes(50_000)
    assert server.connections == 1


class FedWire(Wire):
    """Receives what is put into `pieces`."""

    pieces: List[bytes]

    def receive(self) -> Any:
        return self.pieces.pop(0) if self.pieces else None

    def send(self, data: memoryview) -> int:
        return len(data)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 100])
def test_records_are_followed_however_their_bytes_are_cut(
    server_tls: ssl.SSLContext, ca_file: str, size: int
) -> None:
    context = ssl.create_default_context(cafile=ca_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_tls.wrap_bio(to_server, to_client, server_side=True)

    class ToServer(FedWire):
        def send(self, data: memoryview) -> int:
            to_server.write(bytes(data))
            return len(data)

    with socket.socket() as unused:
        outer = ToServer(unused)
        outer.pieces = []
        wire = TlsWire(outer, context, "localhost")
        for _ in wire.handshake():
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
            outer.pieces.append(to_client.read())
        with contextlib.suppress(ssl.SSLWantReadError):
            server.read()  # the end of the handshake
        outer.pieces = [to_client.read()]  # session tickets
        assert wire.receive() is None
        server.write(b"hello")
        first = to_client.read()
        server.write(bytes(10_000))
        data = first + to_client.read()
        received = b""
        for at in range(0, len(data), size):
            assert wire.is_silent() == (at in (0, len(first)))
            outer.pieces = [data[at : at + size]]
            received += wire.receive() or b""
        assert wire.is_silent()
        assert received == b"hello" + bytes(10_000)
