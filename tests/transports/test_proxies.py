"""What every transport does with a proxy; which one it is, `http11/test_proxies.py` tells."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from typing import Any, Iterator

import pytest
import requests

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_transports import RequestsTransport
from tests.harness.runners import OURS, RUNNERS, Runner, fails, post
from tests.harness.transports.real_proxy import proxy as proxying

AUTHORIZATION = "Basic dXNlcjpwYSBzcw=="  # of user:pa ss


@pytest.fixture(params=OURS, ids=str)
def runner(request: pytest.FixtureRequest) -> Runner:
    """Each transport that takes these options itself."""
    made: Runner = request.param
    return made


@pytest.fixture
def way(scripted: Any) -> Iterator[Any]:
    """A proxy; `way.with_user` is its URL with credentials."""
    with scripted.ScriptedServer(proxying) as server:
        server.with_user = server.url.replace("://", "://user:pa%20ss@")
        yield server


@pytest.fixture
def tls_way(scripted: Any, server_tls: ssl.SSLContext) -> Iterator[Any]:
    """The same, spoken to over TLS."""
    with scripted.ScriptedServer(proxying, tls=server_tls) as server:
        server.with_user = server.url.replace("://", "://user:pa%20ss@")
        yield server


@pytest.fixture
def plain(scripted: Any) -> Iterator[Any]:
    """An http server that sends back what it gets."""
    with scripted.ScriptedServer(scripted.echo) as server:
        yield server


@pytest.fixture
def secure(scripted: Any, server_tls: ssl.SSLContext) -> Iterator[Any]:
    """An https server that sends back what it gets."""
    with scripted.ScriptedServer(scripted.echo, tls=server_tls) as server:
        yield server


def authority_of(server: Any) -> str:
    return f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_plain_requests_are_forwarded(
    runner: Runner, way: Any, tls_way: Any, plain: Any, ca_file: str, scheme: str
) -> None:
    """In absolute form, the credentials with each of them, and to the proxy alone."""
    by = tls_way if scheme == "https" else way
    with runner(proxy=by.with_user, verify=ca_file) as transport:
        for body in (b"one", b"two"):
            request = Request("POST", f"{plain.url}/a%20b?c=d", Headers({"X-API-Key": "k"}), body)
            assert transport.send(request).body == body
    assert by.connections == 1
    for request in by.requests:
        assert request.target == f"{plain.url}/a%20b?c=d"
        assert request["host"] == authority_of(plain)
        assert [v for n, v in request.headers if n.lower() == "proxy-authorization"] == [
            AUTHORIZATION
        ]
    for request in plain.requests:
        assert request["x-api-key"] == "k"
        assert "proxy-authorization" not in request


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tunnel_sends_credentials_to_proxy_only(
    runner: Runner, way: Any, tls_way: Any, secure: Any, ca_file: str, scheme: str
) -> None:
    """The proxy sees its own credentials and where to; the origin all the rest."""
    by = tls_way if scheme == "https" else way
    big = b"x" * 1_000_000
    with runner(proxy=by.with_user, verify=ca_file) as transport:
        key = {"X-API-Key": "k", "Authorization": "Bearer k"}
        assert transport.send(post(secure, b"one", **key)).body == b"one"
        assert transport.send(post(secure, big, **key)).body == big
        body = transport.open(post(secure, b"two", **key))
        assert body.read_all() == b"two"
        assert body.read(0.01) == b""
        body.close()
    assert by.connections <= 2  # a stream may have a connection of its own
    for request in by.requests:
        assert (request.method, request.target) == ("CONNECT", authority_of(secure))
        assert request["proxy-authorization"] == AUTHORIZATION
        assert "x-api-key" not in request
        assert "authorization" not in request
    assert [request.target for request in secure.requests] == ["/things"] * 3
    for request in secure.requests:
        assert request["authorization"] == "Bearer k"
        assert request["host"] == authority_of(secure)
        assert "proxy-authorization" not in request


def test_a_proxy_of_the_environment_is_used(
    runner: Runner, way: Any, plain: Any, secure: Any, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", way.with_user)
    monkeypatch.setenv("HTTPS_PROXY", way.url)
    with runner(verify=ca_file) as transport:
        monkeypatch.delenv("HTTP_PROXY")  # it was settled when the transport was made
        assert transport.send(post(plain, b"a")).body == b"a"
        assert transport.send(post(secure, b"b")).body == b"b"
    assert [request.method for request in way.requests] == ["POST", "CONNECT"]
    monkeypatch.setenv("HTTP_PROXY", "socks5://nowhere.example")
    with runner(trust_env=False) as transport:
        assert transport.send(post(plain, b"c")).body == b"c"
    with runner(proxy=way.url) as transport:  # what was asked for comes first
        assert transport.send(post(plain, b"d")).body == b"d"
    assert [request.method for request in way.requests] == ["POST", "CONNECT", "POST"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 407 Who are you\r\nContent-Length: 9\r\n\r\n<html>407", "407"),
        (b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>", "502"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example\r\n\r\n", "302"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", "503"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ""),
        (b"HTTP/1.1 200", ""),
        (b"", ""),
    ],
    ids=["407", "502", "302", "100", "garbage", "cut", "closed"],
)
def test_a_refused_tunnel_counts_as_not_sent(
    runner: Runner, scripted: Any, answer: bytes, text: str
) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(answer)

    with scripted.ScriptedServer(handler) as server:
        with_user = server.url.replace("://", "://user:pa%20ss@")
        with runner(proxy=with_user, max_connections=1) as transport:
            for _ in range(2):  # the slot is free again
                with fails(Phase.NOT_SENT, text) as caught:
                    transport.send(Request("POST", "https://origin.example/", Headers(), b"x"))
                assert f"proxy {server.url}" in str(caught.value)
                assert "pa ss" not in str(caught.value)
                assert caught.value.__cause__ is not None
                # The same credentials would be refused again, and may lock an account.
                assert caught.value.permanent is (text == "407")


def lose_the_reply(peer: Any) -> None:
    peer.read_request()
    peer.close()


def test_a_proxy_of_a_callers_session(scripted: Any) -> None:
    refusal = scripted.answering(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    with (
        scripted.ScriptedServer(lose_the_reply) as losing,
        scripted.ScriptedServer(refusal) as refusing,
        socket.socket() as unheard,
        requests.Session() as session,
    ):
        unheard.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens
        nobody = f"http://127.0.0.1:{unheard.getsockname()[1]}"
        session.trust_env = False
        session.proxies = {
            "http://losing.example": losing.url,
            "https://refusing.example": refusing.url,
            "http://nobody.example": nobody,
        }
        transport = RequestsTransport(session)
        for url, phase in (
            ("http://losing.example", Phase.MAYBE_PROCESSED),
            ("https://refusing.example", Phase.NOT_SENT),
            ("http://nobody.example", Phase.NOT_SENT),
        ):
            with fails(phase):
                transport.send(Request("POST", f"{url}/", Headers(), b"x"), 5.0)


def test_an_unreachable_proxy_counts_as_not_sent(runner: Runner) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with runner(proxy=f"http://user:secret@127.0.0.1:{port}") as transport:
        for scheme in ("http", "https"):
            with fails(Phase.NOT_SENT, re.escape(f"proxy http://127.0.0.1:{port}")) as caught:
                transport.send(Request("GET", f"{scheme}://origin.example/", Headers()))
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_must_prove_who_it_is(runner: Runner, tls_way: Any, scheme: str) -> None:
    refused = fails(Phase.NOT_SENT, r"(?i)certificate.*\(verify= says")
    with runner(proxy=tls_way.with_user) as transport, refused as caught:
        transport.send(Request("GET", f"{scheme}://origin.example/", Headers()))
    assert caught.value.permanent
    assert not tls_way.requests


def repeating(peer: Any) -> None:
    request = peer.read_request()
    said = f"bad {request['proxy-authorization']}, secret/password".encode()
    head = (
        f"HTTP/1.1 407 {said.decode()}\r\nConnection: close\r\nContent-Length: {len(said)}\r\n\r\n"
    )
    peer.send(head.encode() + said)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=str)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["https", "http", "socks5"])
def test_no_request_goes_past_the_proxy_of_the_environment(
    runner: Runner, scripted: Any, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    """It goes to the proxy, or the call fails; it never goes to the server, with the key."""
    with (
        scripted.ScriptedServer(scripted.echo) as server,
        scripted.ScriptedServer(scripted.Peer.close) as between,
    ):
        monkeypatch.setenv(variable, between.url.replace("http", proxy))
        with runner() as transport, pytest.raises(TransportFailure):
            transport.send(Request("POST", server.url, Headers(), b"x"), 5.0)
    assert not server.requests


@pytest.mark.parametrize("status", ["407", "502"])
@pytest.mark.parametrize("runner", RUNNERS.values(), ids=str)
def test_of_a_proxys_refusals_only_a_407_is_permanent(
    runner: Runner, scripted: Any, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """The same credentials would be refused again, and may lock an account."""
    refusal = f"HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with scripted.ScriptedServer(scripted.answering(refusal.encode())) as server:
        monkeypatch.setenv("https_proxy", server.url.replace("//", "//user:pass@"))
        with runner() as transport, fails(Phase.NOT_SENT, status) as caught:
            transport.send(Request("POST", "https://origin.example/", Headers(), b"x"))
    assert caught.value.permanent is (status == "407")


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=str)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("env", [False, True])
@pytest.mark.parametrize("password", ["secret%2Fpassword", "gr%C3%BCnkohl"])
def test_a_transport_knows_what_it_sends_to_a_proxy(
    runner: Runner,
    scripted: Any,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    env: bool,
    password: str,
) -> None:
    """Some libraries send a password in Latin-1."""
    scrubber = SecretScrubber(more=lambda: transport.secrets)
    with scripted.ScriptedServer(repeating) as server:
        url = server.url.replace("//", f"//user:{password}@")
        if env:
            monkeypatch.setenv(f"{scheme}_proxy", url)
        with runner(**({} if env else {"proxy": url})) as transport:
            assert scrubber.text("before") == "before"  # it may be asked before the first call
            try:
                response = transport.send(Request("GET", f"{scheme}://o.example/", Headers()))
                said = response.body
            except TransportFailure as failure:
                said = failure.message.encode()
            shown = scrubber.beginning(said, 1000)
    (request,) = server.requests
    token = request["proxy-authorization"].partition(" ")[2].encode()
    assert token in said or scheme == "https"
    assert token not in shown
    assert b"secret" not in shown or password != "secret%2Fpassword"
