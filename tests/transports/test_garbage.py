"""What is no reply by RFC 9112 is refused on every transport of ours alike."""

from __future__ import annotations

from typing import Any

import pytest
from lanes import LANES, Lane, fails, get

from flowmaestro_core.http import Headers, Phase, Request

GARBAGE = {
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 101": b"HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nok",
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
    "nul": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "no name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest) -> Lane:
    return Lane(request.param)


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_no_reply(lane: Lane, scripted: Any, name: str) -> None:
    handler = scripted.answering(GARBAGE[name], then_close=True)
    with scripted.ScriptedServer(handler) as server, lane() as transport:
        for use in (transport.send, transport.open):
            with fails(Phase.REPLY_BROKEN):
                use(get(server))
    assert server.connections == 2


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"], ids=["empty", "long"])
def test_what_can_be_no_host(lane: Lane, host: str) -> None:
    with lane() as transport, fails(Phase.NOT_SENT):
        transport.send(Request("GET", f"http://{host}/", Headers()))
