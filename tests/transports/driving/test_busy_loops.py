"""An event loop that is busy elsewhere comes late: to bytes, and to the end of a patience."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import anyio
import pytest

from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports import AiohttpTransport, AnyioTransport
from tests.harness.runners import OF_THE_LIBRARY

on_each = pytest.mark.parametrize(
    ("make", "backend"),
    [(AiohttpTransport, "asyncio"), (AnyioTransport, "asyncio"), (AnyioTransport, "trio")],
    ids=["aiohttp", "anyio-asyncio", "anyio-trio"],
)


@on_each
@pytest.mark.parametrize("farewell", ["a reply", "an end", "a reset"])
def test_over_tls_a_dead_connection_is_seen_before_it_is_used(
    scripted: Any, make: Any, backend: str, farewell: str, server_tls: Any, ca_file: str
) -> None:
    """As the kit's `stale-bytes-after-cpu-work`, where the bytes mean nothing by themselves."""
    if make is AiohttpTransport:
        pytest.skip(OF_THE_LIBRARY[make]["stale-bytes-after-cpu-work"])
    answered, left = threading.Event(), threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(b"asked"))
        if peer.number:
            return
        answered.wait(60)
        if farewell == "a reply":
            peer.send(scripted.reply(b"unasked"))
            left.set()
            peer.read_request()
        elif farewell == "an end":
            socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
        else:
            peer.reset()
        left.set()

    async def main(url: str) -> None:
        transport = make(verify=ca_file)
        for _ in range(2):
            response = await transport.send(Request("POST", url, Headers(), b"x"), 10.0)
            assert response.body == b"asked"
            answered.set()
            left.wait(60)
            time.sleep(0.05)  # noqa: ASYNC251 - until it has arrived
        await transport.close()

    with scripted.ScriptedServer(handler, tls=server_tls) as server:
        anyio.run(main, server.url, backend=backend)
    assert server.connections == 2
