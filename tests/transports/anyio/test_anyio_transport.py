"""`AnyioTransport` over real loopback sockets, on asyncio and trio."""

from __future__ import annotations

import threading
import time
from typing import Any

import anyio
import pytest

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.anyio.transport import AnyioTransport
from tests.harness.runners import get, post
from tests.harness.transports.anyio_scenes import Play, failure


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
