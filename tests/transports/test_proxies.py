"""What every transport does with a proxy; which one it is, `http11/test_proxies.py` tells."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import sys
import threading
from typing import Any, Iterator

import pytest
import requests

from flowmaestro import FlowMaestroClient, FlowMaestroError, ServerError
from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_core.http.scrub import SecretScrubber
from flowmaestro_transports import RequestsTransport, SocketTransport
from tests.harness.runners import OURS, RUNNERS, Runner, fails, get, post
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


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_quiet_stream_through_a_tunnel(
    runner: Runner,
    scripted: Any,
    way: Any,
    tls_way: Any,
    server_tls: ssl.SSLContext,
    ca_file: str,
    scheme: str,
) -> None:
    runner.needs("quiet-body")
    left = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False) + b"5\r\nhe")
        peer.read_request()
        left.set()

    by = tls_way if scheme == "https" else way
    with (
        scripted.ScriptedServer(handler, tls=server_tls) as origin,
        runner(proxy=by.url, verify=ca_file) as transport,
    ):
        body = transport.open(get(origin))
        assert body.read(5.0) == b"he"
        assert body.read(0.05) is None
        body.close()
        assert left.wait(60)


@pytest.mark.filterwarnings(
    # asyncio before Python 3.11 takes a transport that TLS broke for one that was forgotten
    "ignore::pytest.PytestUnraisableExceptionWarning" if sys.version_info < (3, 11) else "error"
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_failures_behind_a_tunnel_are_reported_alike(
    runner: Runner,
    scripted: Any,
    way: Any,
    tls_way: Any,
    server_tls: ssl.SSLContext,
    ca_file: str,
    scheme: str,
) -> None:
    """It is told as without one: a tunnel is a connection like any other."""

    def stalling(peer: Any) -> None:
        peer.wait_closed()

    def resetting(peer: Any) -> None:
        peer.sock.recv(100)
        peer.reset()

    def cutting(peer: Any) -> None:
        request = peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf" if request.body else b"")

    def saying_no_goodbye(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)

    by = tls_way if scheme == "https" else way
    with runner(proxy=by.url, verify=ca_file) as transport:
        with scripted.ScriptedServer(cutting, tls=server_tls) as server:
            with fails(Phase.REPLY_BROKEN):
                transport.send(post(server))
            with fails(Phase.REPLY_BROKEN):
                transport.open(post(server)).read_all()
            with fails(Phase.MAYBE_PROCESSED):
                transport.send(post(server, b""))
        runner.needs("a-failed-handshake")
        for handler, late in ((resetting, False), (stalling, True)):
            with scripted.ScriptedServer(handler) as server:
                server.url = server.url.replace("http:", "https:")
                with fails(Phase.NOT_SENT, timed_out=late):
                    transport.send(post(server), 0.5 if late else 5.0)
        runner.needs("a-body-cut-off-under-tls")
        with (
            scripted.ScriptedServer(saying_no_goodbye, tls=server_tls) as server,
            fails(Phase.REPLY_BROKEN),
        ):
            transport.send(post(server))


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


def test_no_proxy_of_the_environment_exempts_a_host(
    runner: Runner, way: Any, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", way.url)
    monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{plain.port}")
    with runner() as transport:
        assert transport.send(post(plain, b"a")).body == b"a"
    with runner(proxy=way.url) as transport:  # what was asked for comes first
        assert transport.send(post(plain, b"b")).body == b"b"
    assert [request.body for request in way.requests] == [b"b"]


def test_the_environment_is_not_trusted(
    runner: Runner, plain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://nowhere.example")
    with runner() as transport:
        for begin in (transport.send, transport.open):
            with fails(Phase.NOT_SENT, "ALL_PROXY: SOCKS is not supported") as caught:
                begin(post(plain))
            assert caught.value.permanent
    with runner(trust_env=False) as transport:
        assert transport.send(post(plain, b"a")).body == b"a"
    monkeypatch.setenv("NO_PROXY", "*")
    with runner() as transport:
        assert transport.send(post(plain, b"b")).body == b"b"


def test_socks_is_refused(runner: Runner) -> None:
    with pytest.raises(ValueError, match="SOCKS"), runner(proxy="socks5://proxy.example"):
        pass


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


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_silent_proxy_is_not_sent(runner: Runner, scripted: Any, said: bytes) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(said)
        peer.wait_closed()

    with (
        scripted.ScriptedServer(handler) as server,
        runner(proxy=server.url) as transport,
        fails(Phase.NOT_SENT, timed_out=True),
    ):
        transport.send(Request("POST", "https://origin.example/", Headers(), b"x"), 0.2)


def lose_the_reply(peer: Any) -> None:
    peer.read_request()
    peer.close()


def test_a_reply_that_a_proxy_loses_may_have_been_one(runner: Runner, scripted: Any) -> None:
    with scripted.ScriptedServer(lose_the_reply) as server, runner(proxy=server.url) as transport:
        for _ in range(2):
            with fails(Phase.MAYBE_PROCESSED):
                transport.send(Request("POST", "http://origin.example/", Headers(), b"x"))


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


def test_an_error_page_of_a_proxy_is_a_reply(runner: Runner, scripted: Any) -> None:
    page = scripted.reply(
        b"<html>no route</html>", status="502 Bad Gateway", headers=[("Content-Type", "text/html")]
    )

    def handler(peer: Any) -> None:
        while peer.read_request():
            peer.send(page)

    with scripted.ScriptedServer(handler) as server, runner(proxy=server.url) as transport:
        response = transport.send(Request("GET", "http://origin.example/", Headers()))
        assert (response.status, response.body) == (502, b"<html>no route</html>")
        made = SocketTransport(proxy=server.url)
        with (
            FlowMaestroClient(
                "k", base_url="http://origin.example", transport=made, max_retries=0
            ) as client,
            pytest.raises(ServerError) as caught,
        ):
            client.workflows.get("wf_1")
        assert caught.value.status_code == 502


def test_each_proxy_gets_its_own_credentials(
    runner: Runner, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users of one proxy: one for each scheme."""
    refusal = scripted.reply(status="503 Service Unavailable", headers=[("Connection", "close")])
    with scripted.ScriptedServer(scripted.answering(refusal)) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//alice:1@"))
        monkeypatch.setenv("https_proxy", server.url.replace("//", "//bob:2@"))
        with runner() as transport:
            transport.send(Request("GET", "http://a.example/", Headers()))
            with fails(Phase.NOT_SENT):
                transport.send(Request("GET", "https://b.example/", Headers()))
    sent = [request["proxy-authorization"] for request in server.requests]
    assert sent == ["Basic YWxpY2U6MQ==", "Basic Ym9iOjI="]


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
def test_a_password_in_latin_1_is_a_secret(
    runner: Runner, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted.ScriptedServer(repeating) as server:
        monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:gr%C3%BCnkohl@"))
        with runner() as transport:
            response = transport.send(Request("GET", "http://o.example/", Headers()))
            scrubber = SecretScrubber(more=lambda: transport.secrets)
    (request,) = server.requests
    token = request["proxy-authorization"].partition(" ")[2].encode()
    assert token in response.body
    assert token not in scrubber.beginning(response.body, 1000)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=str)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("env", [False, True])
def test_a_transport_knows_what_it_sends_to_a_proxy(
    runner: Runner, scripted: Any, scheme: str, monkeypatch: pytest.MonkeyPatch, env: bool
) -> None:
    scrubber = SecretScrubber(more=lambda: transport.secrets)
    with scripted.ScriptedServer(repeating) as server:
        url = server.url.replace("//", "//user:secret%2Fpassword@")
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
    assert b"Basic dXNlcjpzZWNyZXQvcGFzc3dvcmQ=" in said or scheme == "https"
    assert b"secret" not in shown
    assert b"dXNl" not in shown


def test_no_error_repeats_what_was_sent_to_a_proxy(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted.ScriptedServer(repeating) as server:
        url = server.url.replace("//", "//user:secret%2Fpassword@")
        monkeypatch.setenv("http_proxy", url)
        with FlowMaestroClient("k", base_url="http://origin.example") as client:
            for each in (client, client.with_options(timeout=5)):
                with pytest.raises(FlowMaestroError, match=r"bad \*\*\*, \*\*\*"):
                    each.workflows.get("wf_1")
