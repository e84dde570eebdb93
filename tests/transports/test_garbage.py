"""What is no reply by RFC 9112, beyond what the kit tries, on the adapters.

They judge it as their libraries do: it is a reply or a `TransportFailure`, nothing else. What our
HTTP/1.1 refuses is in `http11/test_exchange.py` and `http11/test_framing.py`.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from flowmaestro_core.http.messages import Phase, TransportFailure
from tests.harness.runners import RUNNERS, Driven, Runner, fails, get

CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"

GARBAGE = {
    "a version of another kind": b"HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a tab in the status line": b"HTTP/1.1\t200\tOK\r\nContent-Length: 2\r\n\r\nok",
    "a vertical tab": CHUNKED_OK.replace(b"chunked", b"\x0bchunked"),
    "a length and chunks": CHUNKED_OK.replace(b"\r\n\r\n2", b"\r\nContent-Length: 2\r\n\r\n2"),
    "chunked twice": CHUNKED_OK.replace(b"chunked", b"chunked\r\nTransfer-Encoding: chunked"),
    "gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
    "an unknown coding": CHUNKED_OK.replace(b"chunked", b"xchunked"),
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
    "status 101": b"HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nok",
    "identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok",
    "nul": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    "no name": b"HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 2\r\n\r\nok",
}


pytestmark = pytest.mark.parametrize(
    "runner", [RUNNERS["requests"], RUNNERS["aiohttp"]], ids=str, indirect=True
)

_CODINGS = {"a vertical tab", "chunked twice", "gzip", "an unknown coding", "identity"}
LAX = {
    "requests": {"a tab in the status line", "nul", "no name", "a length and chunks", *_CODINGS},
    "aiohttp": _CODINGS,
}
"""What passes with http.client, beneath requests, and with aiohttp."""


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_no_reply(runner: Runner, scripted: Any, name: str) -> None:
    lax = name in LAX[runner.name]
    handler = scripted.answering(GARBAGE[name], then=scripted.Peer.close)
    with scripted.ScriptedServer(handler) as server:
        for use in (Driven.send, Driven.open):
            expected: Any = contextlib.suppress(TransportFailure)
            with runner() as transport, expected if lax else fails(Phase.REPLY_BROKEN):
                use(transport, get(server))
    assert server.connections == 2


@pytest.mark.parametrize("size", [b"-2", b"0_2", b" 2", b"F" * 40])
def test_a_garbled_chunk_is_no_body(runner: Runner, scripted: Any, size: bytes) -> None:
    if size in {b"0_2", b" 2"}:  # what int() takes for a number
        runner.needs("a-garbled-length")
    data = CHUNKED_OK.replace(b"2\r\nok", size + b"\r\nok")
    handler = scripted.answering(data, then=scripted.Peer.close)
    with scripted.ScriptedServer(handler) as server, runner() as transport:
        with fails(Phase.REPLY_BROKEN):
            transport.send(get(server))
        with fails(Phase.REPLY_BROKEN):
            transport.open(get(server)).read_all()


def test_a_field_that_goes_on_in_the_next_line(runner: Runner, scripted: Any) -> None:
    data = b"HTTP/1.1 200 OK\r\nX: a\r\n \t b\r\nContent-Length: 2\r\n\r\nok"
    with scripted.ScriptedServer(scripted.answering(data)) as server, runner() as transport:
        response = transport.send(get(server))
    assert response.body == b"ok"
    assert response.headers["x"].split() == ["a", "b"]
    assert not set(response.headers["x"]) & set("\r\n")
