"""One request and its reply on every transport of ours, beyond what the conformance kit expects."""

from __future__ import annotations

import errno
import gzip
import socket
import sys
from typing import Any, List

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request
from flowmaestro_core.timeouts import Timeout
from tests.harness.runners import OURS, Runner, fails, get, post


def test_no_header_field_is_added_but_host_and_length(runner: Runner, scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server, runner() as transport:
        transport.send(post(server, b"x", **{"X-b": "1", "A": "2"}))
    names = [name for name, _ in server.requests[0].headers]
    assert names == ["Host", "X-b", "A", "Content-Length"]


@pytest.mark.parametrize(("line", "words"), [(b"X:  7 \t", ["7"]), (b"X: a\r\n \t b", ["a", "b"])])
def test_value_of_a_header_field_is_one_line_without_space_around_it(
    runner: Runner, scripted: Any, line: bytes, words: List[str]
) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n"
    with scripted.ScriptedServer(scripted.answering(head)) as server, runner() as transport:
        value = transport.send(get(server)).headers["x"]
    assert value.split() == words
    assert value == value.strip()
    assert not set(value) & set("\r\n")


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
        "http://[::1]:1",
        "http://[::ffff:127.0.0.1]:1",
        "http://256.1.1.1",
        "http://127.1:1",
        "http://localhost.:1",
        "http://☃.invalid",
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


def test_patched_socket_functions_are_used(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with runner() as transport, fails(Phase.NOT_SENT):
        transport.send(Request("POST", "http://localhost:1", Headers(), b"x"))
    assert {*called} == {"getaddrinfo", "connect"}


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


def test_informational_response_as_the_final_one_is_refused(runner: Runner, scripted: Any) -> None:
    head = b"HTTP/1.1 101 Other\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    with scripted.ScriptedServer(scripted.answering(head)) as server, runner() as transport:
        for use in (transport.send, transport.open):
            with fails(Phase.REPLY_BROKEN):
                use(get(server))


def test_reply_within_its_limit_is_whole(runner: Runner, scripted: Any) -> None:
    said = scripted.reply(b"x" * 300_000)
    with scripted.ScriptedServer(scripted.answering(said)) as server, runner() as transport:
        request = Request("GET", server.url, Headers(), b"", 300_000)
        assert len(transport.send(request).body) == 300_000
