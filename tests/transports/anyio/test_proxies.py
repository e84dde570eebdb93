"""`AnyioTransport` by way of a proxy: tunnels, TLS within TLS, which connection is used again.

What all transports have in common with proxies is tested in `test_proxies.py`.
"""

from __future__ import annotations

import ssl
from typing import Any, Iterator

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request
from flowmaestro_transports.anyio.transport import AnyioTransport
from tests.harness.runners import get, post
from tests.harness.transports.anyio_scenes import Play, failure
from tests.harness.transports.real_proxy import proxy as proxying


@pytest.fixture(params=["http", "https"])
def proxy(
    request: pytest.FixtureRequest, scripted: Any, server_tls: ssl.SSLContext
) -> Iterator[Any]:
    """A proxy, spoken to in the clear or over TLS."""
    context = server_tls if request.param == "https" else None
    with scripted.ScriptedServer(proxying, tls=context) as server:
        yield server


@pytest.fixture
def origin(scripted: Any, authority: Any) -> Iterator[Any]:
    """An https server that sends back what it gets, under a name that is not the proxy's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with scripted.ScriptedServer(scripted.echo, tls=context) as server:
        server.url = f"https://localhost:{server.port}"
        yield server


def test_a_tunnel_is_for_one_origin(
    play: Play, scripted: Any, server_tls: ssl.SSLContext, proxy: Any, origin: Any, ca_file: str
) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        for server in (origin, other, origin, other):
            assert (await transport.send(post(server, b"%d" % server.port), 5)).status == 200

    with scripted.ScriptedServer(scripted.echo, tls=server_tls) as other:
        play(scenario, proxy=proxy.url, verify=ca_file)
    for server in (origin, other):
        assert [request.body for request in server.requests] == [b"%d" % server.port] * 2
    assert proxy.connections == 2
    assert [request.headers[1:] for request in proxy.requests] == [[], []]


def test_a_way_to_any_plain_origin(play: Play, scripted: Any, proxy: Any, ca_file: str) -> None:
    """One connection of a forwarding proxy serves them all."""

    async def scenario(transport: AnyioTransport) -> None:
        for host in ("127.0.0.1", "localhost", "127.0.0.1"):
            request = Request("POST", f"http://{host}:{plain.port}", Headers(), host.encode())
            assert (await transport.send(request, 5)).body == host.encode()

    with scripted.ScriptedServer(scripted.echo) as plain:
        play(scenario, proxy=proxy.url, verify=ca_file)
    assert proxy.connections == 1
    assert [request["host"] for request in proxy.requests] == [
        f"{host}:{plain.port}" for host in ("127.0.0.1", "localhost", "127.0.0.1")
    ]


def test_ways_do_not_mix(play: Play, scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forwarded connection digs no tunnel, and a proxy is also a server like another."""

    def handler(peer: Any) -> None:
        while (request := peer.read_request()) is not None:
            refused = request.method == "CONNECT"
            peer.send(scripted.reply(status="403 Forbidden" if refused else "200 OK"))

    async def scenario(transport: AnyioTransport) -> None:
        forwarded = Request("GET", "http://origin.example/", Headers())
        await transport.send(forwarded, 5)
        tunnelled = Request("GET", "https://origin.example/", Headers())
        assert "403" in (await failure(transport.send(tunnelled, 5))).message
        await transport.send(get(server, "/direct"), 5)
        await transport.send(forwarded, 5)
        await transport.send(get(server, "/direct"), 5)

    with scripted.ScriptedServer(handler) as server:
        monkeypatch.setenv("ALL_PROXY", server.url)
        monkeypatch.setenv("NO_PROXY", f"127.0.0.1:{server.port}")
        play(scenario)
    assert server.connections == 3
    whole, direct = "http://origin.example/", "/direct"
    assert [request.target for request in server.requests] == [
        whole,
        "origin.example:443",
        direct,
        whole,
        direct,
    ]


def test_the_body_length_of_a_connect_response_is_ignored(
    play: Play, scripted: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    """What it says of a body is to be ignored (RFC 9110, 9.3.6)."""

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.0 200 Connection established\r\nContent-Length: 7\r\n\r\n")
        peer.sock = server_tls.wrap_socket(peer.sock, server_side=True)
        peer.read_request()
        peer.send(scripted.reply(b"fine"))

    with scripted.ScriptedServer(handler) as server:
        request = Request("GET", f"https://127.0.0.1:{server.port}/", Headers())
        reply = play(lambda t: t.send(request, 5), proxy=server.url, verify=ca_file)
    assert reply.body == b"fine"


@pytest.mark.parametrize("stranger", ["proxy", "origin"])
def test_certificates_of_proxy_and_origin_are_checked(
    play: Play,
    scripted: Any,
    authority: Any,
    server_tls: ssl.SSLContext,
    ca_file: str,
    stranger: str,
) -> None:
    elsewhere = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("elsewhere.example").configure_cert(elsewhere)
    contexts = {"proxy": server_tls, "origin": server_tls, stranger: elsewhere}
    proxies = scripted.ScriptedServer(proxying, tls=contexts["proxy"])
    with scripted.ScriptedServer(scripted.echo, tls=contexts["origin"]) as origin, proxies as proxy:
        error = play(
            lambda t: failure(t.send(post(origin, b"x"), 5)), proxy=proxy.url, verify=ca_file
        )
    assert error.phase is Phase.NOT_SENT
    assert "certificate verify failed" in error.message
    assert ("proxy" in error.message) is (stranger == "proxy")
    assert origin.requests == []
