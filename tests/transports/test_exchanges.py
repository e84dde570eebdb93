"""One request and its reply on every transport of ours, beyond what the conformance kit expects."""

from __future__ import annotations

import gzip
import socket
import sys
from typing import Any

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request
from flowmaestro_core.timeouts import Timeout
from tests.harness.runners import OURS, Runner, fails, get, post


def test_the_bytes_of_a_request(runner: Runner, scripted: Any) -> None:
    received = []

    def handler(peer: Any) -> None:
        data = b""
        while b'{"a":1}' not in data:
            data += peer.sock.recv(65536)
        received.append(data)
        peer.send(scripted.reply())

    headers = Headers([("X-b", "1"), ("x-A", "2"), ("Content-Type", "application/json")])
    with scripted.ScriptedServer(handler) as server, runner() as transport:
        url = f"{server.url}/a%2Fb/%C3%A9?q=%20x&y=a+b#gone"
        transport.send(Request("PUT", url, headers, b'{"a":1}'))
    assert received == [
        b"PUT /a%2Fb/%C3%A9?q=%20x&y=a+b HTTP/1.1\r\n"
        + f"Host: 127.0.0.1:{server.port}\r\n".encode()
        + b"X-b: 1\r\nx-A: 2\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"
        b'{"a":1}'
    ]


def test_space_around_the_value_of_a_header_field_is_not_part_of_it(
    runner: Runner, scripted: Any
) -> None:
    head = b"HTTP/1.1 429 X\r\nRetry-After:  7 \t\r\nContent-Length: 0\r\n\r\n"
    with scripted.ScriptedServer(scripted.answering(head)) as server, runner() as transport:
        assert transport.send(get(server)).headers["retry-after"] == "7"


def test_a_connection_is_used_again(runner: Runner, scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, runner() as transport:
        for number in range(5):
            assert transport.send(post(server, b"%d" % number)).body == b"%d" % number
        assert server.connections == 1


def test_a_stream_that_was_read_whole_gives_its_connection_back(
    runner: Runner, scripted: Any
) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, runner() as transport:
        for _ in range(3):
            body = transport.open(post(server, b"all of it"))
            assert body.read_all() == b"all of it"
            body.close()
        assert server.connections == 1


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_reply_is_bounded(
    runner: Runner, scripted: Any, coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("flowmaestro_transports.") and hasattr(module, "MAX_BODY"):
            monkeypatch.setattr(module, "MAX_BODY", 100_000)
    content = bytes(100_001)
    packed = gzip.compress(content) if coding == "gzip" else content
    data = scripted.reply(packed, headers=[("Content-Encoding", coding)])
    with (
        scripted.ScriptedServer(scripted.answering(data)) as server,
        runner() as transport,
        fails(Phase.REPLY_BROKEN, "more than 100000 bytes"),
    ):
        transport.send(get(server, **{"Accept-Encoding": "gzip"}))


@pytest.mark.parametrize(
    "url",
    [
        "http://no-such-host.invalid/",
        "nothing://here/",
        "ftp://127.0.0.1/",
        "/relative",
        "http://[::",
        "http://",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:port/",
        "http:///x",
        "http://a..b/",
        f"http://{'a' * 64}.example/",
    ],
)
def test_unreachable_url_is_not_sent(runner: Runner, url: str) -> None:
    with runner() as transport:
        for step in (transport.send, transport.open):
            with fails(Phase.NOT_SENT):
                step(Request("GET", url, Headers()))


def test_name_without_an_address_is_not_sent(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with runner() as transport, fails(Phase.NOT_SENT):
        transport.send(Request("POST", "http://origin.example/", Headers(), b"x"))


@pytest.mark.parametrize("runner", OURS, ids=str, indirect=True)
def test_a_user_in_a_url_is_not_sent(runner: Runner, scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, runner() as transport:
        url = server.url.replace("//", "//me:secret@")
        with fails(Phase.NOT_SENT) as caught:
            transport.send(Request("GET", url, Headers()))
    assert "secret" not in f"{caught.value}{caught.value.__cause__}"
    assert not server.requests


def test_a_call_without_time_left_is_not_sent(runner: Runner, scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, runner() as transport:
        transport.send(get(server))
        with fails(Phase.NOT_SENT, timed_out=True):
            transport.send(post(server), 0.0)
        assert len(server.requests) == 1


def test_a_failed_call_leaves_nothing_to_the_next(runner: Runner, scripted: Any) -> None:
    def handler(peer: Any) -> None:
        if peer.read_request().method == "GET":
            peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
            peer.wait_closed()
        else:
            peer.send(scripted.reply(b"ok", headers=[("Connection", "close")]))

    with scripted.ScriptedServer(handler) as server, runner() as transport:
        for _ in range(3):
            with fails(Phase.REPLY_BROKEN, timed_out=True):
                transport.send(get(server), Timeout(30.0, read=0.2))
            assert transport.send(post(server)).body == b"ok"


@pytest.mark.parametrize("fields", ["Transfer-Encoding: chunked", "Content-Length: 5"])
def test_a_204_has_no_body_whatever_its_framing_says(
    runner: Runner, scripted: Any, fields: str
) -> None:
    if runner.name == "requests" and fields.startswith("Transfer-Encoding"):
        pytest.skip("http.client waits for the chunks until the call times out")
    head = f"HTTP/1.1 204 No Content\r\n{fields}\r\n\r\n".encode()
    with scripted.ScriptedServer(scripted.answering(head)) as server, runner() as transport:
        assert transport.send(get(server), 60.0).body == b""
