"""`AnyioTransport` over real loopback sockets, on asyncio and trio."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request
from flowmaestro_transports.anyio.transport import AnyioTransport
from tests.harness.runners import get, post
from tests.harness.transports.anyio_scenes import Play, failure, read_all, replies

# --- Requests and replies -------------------------------------------------------------------


def test_each_request_has_its_own_headers(play: Play, scripted: Any) -> None:
    values = ["a", "a", "b", "a"]

    async def scenario(transport: AnyioTransport) -> None:
        for value in values:
            await transport.send(Request("GET", server.url, Headers([("X-Value", value)])), 5)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)
    assert [request["x-value"] for request in server.requests] == values
    assert server.connections == 1


@pytest.mark.parametrize(
    ("suffix", "target"), [("", "/"), ("?q=1", "/?q=1"), ("/x?y=/z", "/x?y=/z")]
)
def test_request_target_has_path_and_query(
    play: Play, scripted: Any, suffix: str, target: str
) -> None:
    with scripted.ScriptedServer(scripted.echo) as server:
        play(lambda t: t.send(Request("GET", server.url + suffix, Headers()), 5))
    assert server.requests[0].target == target
    assert "content-length" not in server.requests[0]


def test_head_and_body_leave_in_one_write(play: Play, scripted: Any) -> None:
    first = []

    def handler(peer: Any) -> None:
        first.append(peer.sock.recv(65536))
        peer.send(scripted.reply())

    with scripted.ScriptedServer(handler) as server:
        play(lambda t: t.send(post(server, b"x" * 1000), 5))
    assert first[0].endswith(b"\r\n\r\n" + b"x" * 1000)


def test_a_coding_of_a_body_that_is_left_out(play: Play, scripted: Any) -> None:
    fields = [("Content-Length", "999"), ("Content-Encoding", "gzip")]
    answer = scripted.reply(headers=fields, length=False)

    async def scenario(transport: AnyioTransport) -> None:
        request = Request("HEAD", server.url, Headers())
        assert (await transport.send(request, 5)).body == b""
        assert await read_all(await transport.open(request, 5)) == b""

    with scripted.ScriptedServer(replies(answer)) as server:
        play(scenario)
    assert server.connections == 1


# --- Keep-alive -----------------------------------------------------------------------------


def test_a_connection_reset_in_the_very_moment(
    play: Play, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be sent, so nothing was processed."""
    monkeypatch.setattr("flowmaestro_transports.http11.wire.Wire.is_silent", lambda self: True)

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply())
        read.wait(60)
        peer.reset()
        gone.set()

    read, gone = threading.Event(), threading.Event()

    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        read.set()
        await anyio.to_thread.run_sync(gone.wait, 60)
        error = await failure(transport.send(post(server, b"2"), 5))
        assert error.phase is Phase.NOT_SENT
        assert not error.timed_out

    with scripted.ScriptedServer(handler) as server:
        play(scenario)


@pytest.mark.parametrize(
    ("options", "passed", "connections"),
    [
        ({}, 49.0, 1),
        ({}, 51.0, 2),
        ({}, -3600.0, 2),
        ({"keepalive_expiry": 2}, 1.0, 1),
        ({"keepalive_expiry": 2}, 2.5, 2),
    ],
)
def test_an_idle_connection_expires(
    play: Play,
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: Any,
    passed: float,
    connections: int,
) -> None:
    """Also while the computer sleeps, or when its clock is set back and nobody can tell."""

    async def scenario(transport: AnyioTransport) -> None:
        await transport.send(get(server), 5)
        monkeypatch.setattr(time, "time", lambda: real() + passed)
        await transport.send(get(server), 5)

    real = time.time
    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario, **options)
    assert server.connections == connections


def test_idle_connections_are_bounded(play: Play, scripted: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        bodies = [await transport.open(post(server, b"x"), 5) for _ in range(5)]
        for body in bodies:
            await read_all(body)
        assert transport._pool is not None
        assert len(transport._pool.idle) == 2

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario, max_connections=2)
