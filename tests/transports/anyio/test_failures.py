"""What goes wrong under `AnyioTransport`, and how far the request had come."""

from __future__ import annotations

import time
from typing import Any

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request
from flowmaestro_transports.anyio.transport import AnyioTransport
from tests.harness.transports.anyio_scenes import (
    Play,
    failure,
    get,
    read_all,
)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "http://",
        "http:///x",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://me:secret@127.0.0.1/",
        "http://" + "x" * 64 + ".example/",
        "/relative",
    ],
)
def test_bad_urls(play: Play, url: str) -> None:
    error = play(lambda t: failure(t.send(Request("GET", url, Headers()), 5)))
    assert error.phase is Phase.NOT_SENT
    assert "secret" not in f"{error}{error.__cause__}"


@pytest.mark.parametrize("value", ["se\r\ncret", "se\u2028cret"])
def test_a_header_that_cannot_be_sent(play: Play, scripted: Any, value: str) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        request = Request("GET", server.url, Headers([("X-API-Key", value)]))
        error = await failure(transport.send(request, 5))
        assert error.phase is Phase.NOT_SENT
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert "cret" not in str(error)

    with scripted.ScriptedServer(scripted.echo) as server:
        play(scenario)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("method", ["send", "open"])
@pytest.mark.parametrize(
    ("sent", "phase"),
    [
        (b"", Phase.MAYBE_PROCESSED),
        (b"H", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Phase.REPLY_BROKEN),
        (b"\x16\x03\x01 this is not HTTP\r\n\r\n", Phase.REPLY_BROKEN),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", Phase.REPLY_BROKEN),
    ],
)
def test_a_reply_that_breaks_off(
    play: Play, scripted: Any, how: str, method: str, sent: bytes, phase: Phase
) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(sent)
        time.sleep(0.02)
        getattr(peer, how)()

    async def scenario(transport: AnyioTransport) -> None:
        async def attempt() -> None:
            if method == "send":
                await transport.send(get(server), 5)
            else:
                await read_all(await transport.open(get(server), 5))

        error = await failure(attempt())
        assert error.phase is phase
        assert not error.timed_out
        assert error.__cause__ is not None

    with scripted.ScriptedServer(handler) as server:
        play(scenario)
