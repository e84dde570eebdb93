"""Whatever a server, a proxy or the way to them does, callers of a client get errors of ours.

On every transport: of the same kind on each, with the cause chained, and without a secret in all
that a traceback shows.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import socket
import traceback
from typing import Any, Callable, List, Type

import anyio
import pytest

from flowmaestro import (
    AsyncFlowMaestroClient,
    ConnectionError,
    FlowMaestroClient,
    FlowMaestroError,
    ServerError,
    StreamTimes,
)
from tests.harness.runners import RUNNERS

KEY = "fm_live_0123456789abcdef"
PASSWORD = "open-sesame"

Ask = Callable[[Any], Any]


def get(client: Any) -> Any:
    return client.workflows.get("wf_123")


def execute(client: Any) -> Any:
    return client.workflows.execute("wf_123", inputs={})


def events(client: Any) -> Any:
    stream = client.executions.stream("exec_1")
    return list(stream) if isinstance(client, FlowMaestroClient) else _all(stream)


async def _all(stream: Any) -> List[Any]:
    return [event async for event in stream]


@pytest.fixture(params=RUNNERS.values(), ids=str)
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Asks a client on this transport, once; the result."""
    make, backend = request.param.made, request.param.backend

    def run(base_url: str, what: Ask = get, **options: Any) -> Any:
        settings: Any = {"base_url": base_url, "timeout": 10.0, "max_retries": 0}
        settings["stream_times"] = StreamTimes(reconnect_base=0.01, reconnect_for=0.1)
        if backend is None:
            with FlowMaestroClient(KEY, transport=make(**options), **settings) as client:
                return what(client)

        async def main() -> Any:
            async with AsyncFlowMaestroClient(KEY, transport=make(**options), **settings) as client:
                return await what(client)

        return anyio.run(main, backend=backend)

    return run


@contextlib.contextmanager
def fails(kind: Type[FlowMaestroError]) -> Any:
    with pytest.raises(FlowMaestroError) as caught:
        yield caught
    error = caught.value
    assert type(error) is kind, repr(error)
    shown = "".join(traceback.format_exception(kind, error, error.__traceback__))
    for text in (shown, repr(error), repr(vars(error))):
        assert KEY not in text
        assert PASSWORD not in text
    if kind is ConnectionError:
        assert error.__cause__ is not None


@pytest.mark.parametrize(
    "host",
    [
        "bücher.invalid",
        "☃.invalid",
        "256.1.1.1",
        "127.1:1",
        "localhost.:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ],
)
def test_a_host_where_nobody_is(ask: Any, host: str) -> None:
    for scheme in ("http", "https"):
        with fails(ConnectionError):
            ask(f"{scheme}://{host}", execute)


def test_patched_socket_functions_are_used(
    ask: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As caches of names and guards of tests do, with `*args` and for `connect` alone."""
    called: List[str] = []
    getaddrinfo = socket.getaddrinfo

    def look_up(*args: Any) -> Any:
        called.append("getaddrinfo")
        return getaddrinfo(*args)

    def refuse(sock: socket.socket, address: Any) -> None:
        called.append("connect")
        raise PermissionError(errno.EPERM, "no network here")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with scripted.ScriptedServer(scripted.echo) as server, fails(ConnectionError):
        ask(f"http://localhost:{server.port}", execute)
    assert {*called} == {"getaddrinfo", "connect"}


TUNNELS = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "100 before": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "302": b"HTTP/1.1 302 Found\r\nLocation: http://evil.invalid/\r\n\r\n",
    "no TLS": b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-OpenSSH\r\n",
    "garbled": b"HTTP/1.1 +200 OK\r\n\r\n",
    "NUL": bytes(50),
    "100,000 fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "an endless line": b"HTTP/1.1 200 " + b"x" * 300_000,
    "2,000 times 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000,
    "an echo": f"HTTP/1.1 500 {KEY}\r\n\r\n{PASSWORD}".encode(),
}


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"  # asyncio of old, of TLS that broke
)
@pytest.mark.parametrize("name", TUNNELS)
def test_a_tunnel_that_is_none(ask: Any, scripted: Any, ca_file: str, name: str) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        with contextlib.suppress(OSError):  # the client has heard enough
            peer.send(TUNNELS[name])

    with scripted.ScriptedServer(handler) as server:
        proxy = server.url.replace("//", f"//user:{PASSWORD}@")
        with fails(ConnectionError):
            # To load one authority takes less time than those of the system.
            ask("https://origin.invalid", execute, proxy=proxy, verify=ca_file)


HELLOS = {
    "plain HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "garbage": b"\x16\x03\x03\xff\xff" + b"x" * 100,
    "a part": b"\x16\x03\x03\x00\x7a\x02",
}


@pytest.mark.parametrize("name", HELLOS)
def test_a_handshake_that_is_none(ask: Any, scripted: Any, name: str) -> None:
    def handler(peer: Any) -> None:
        peer.sock.recv(2000)
        peer.send(HELLOS[name])

    with scripted.ScriptedServer(handler) as server, fails(ConnectionError):
        ask(server.url.replace("http:", "https:"), execute)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", [get, execute, events])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
def test_a_record_that_somebody_between_has_changed(
    ask: Any, scripted: Any, server_tls: Any, ca_file: str, before: bytes, what: Ask
) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        if before:
            head = before.replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream\r\n\r\n")
            peer.send(head if what is events else before)
        os.write(peer.sock.fileno(), b"\x17\x03\x03\x00\x20" + b"?" * 32)
        with contextlib.suppress(OSError):
            socket.socket.recv(peer.sock, 100)  # what the client says of that

    with scripted.ScriptedServer(handler, tls=server_tls) as server:
        with pytest.raises(FlowMaestroError) as caught:
            ask(server.url, what, verify=ca_file)
        assert KEY not in repr(caught.value)


def test_decompression_bomb_is_stopped_at_the_limit(ask: Any, scripted: Any) -> None:
    data = scripted.reply(gzip.compress(bytes(65 << 20), 1), headers=[("Content-Encoding", "gzip")])
    with (
        scripted.ScriptedServer(scripted.answering(data)) as server,
        fails(ServerError) as caught,
    ):
        ask(server.url)
    assert caught.value.code == "reply_too_large"
