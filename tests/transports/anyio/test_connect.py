"""How `AnyioTransport` connects: TLS, names and addresses."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any, Callable

import anyio
import pytest

from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports.anyio.transport import AnyioTransport
from flowmaestro_transports.anyio.waiting import look_up
from flowmaestro_transports.http11 import dialing
from flowmaestro_transports.http11.dialing import interleave_families, literal
from tests.harness.runners import full_listener, get
from tests.harness.transports.anyio_scenes import Play, failure


def test_connects_to_ipv6_address(
    play: Play, scripted: Any, server_tls: ssl.SSLContext, ca_file: str
) -> None:
    try:
        server = scripted.ScriptedServer(scripted.echo, host="::1", tls=server_tls)
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert play(lambda t: t.send(get(server), 5), verify=ca_file).status == 200
    assert server.requests[0]["host"] == f"[::1]:{server.port}"


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says which `(host, port)` the name many.example stands for."""

    def stand_for(*addresses: Any) -> None:
        async def getaddrinfo(host: str, port: int, **options: Any) -> Any:
            assert host == "many.example"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", where) for where in addresses]

        monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)

    return stand_for


MANY = Request("GET", "http://many.example/", Headers())


def refused() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()


def test_the_next_address_is_tried(
    play: Play, scripted: Any, resolve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is no reason to wait for the head start of the next address."""
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY", 60.0)

    async def scenario(transport: AnyioTransport) -> None:
        assert (await transport.send(MANY, 30)).status == 200

    with scripted.ScriptedServer(scripted.echo) as server:
        resolve(refused(), ("127.0.0.1", server.port), refused())
        play(scenario)
    assert server.connections == 1


def test_a_silent_address_gets_a_head_start_only(play: Play, scripted: Any, resolve: Any) -> None:
    async def scenario(transport: AnyioTransport) -> None:
        start = transport.now()
        assert (await transport.send(MANY, 30)).status == 200
        assert transport.now() - start > 0.2

    with full_listener() as url, scripted.ScriptedServer(scripted.echo) as server:
        resolve(("127.0.0.1", int(url.rsplit(":")[-1][:-1])), ("127.0.0.1", server.port))
        play(scenario)


@pytest.mark.parametrize("code", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_a_family_that_leads_nowhere_hides_no_refusal(
    play: Play, resolve: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Many names have an IPv6 address, and many hosts no way there."""
    begin = dialing._begin_to_connect
    unreachable = OSError(code, "unreachable")

    def begin_to_connect(*found: Any) -> socket.socket:
        if found[-1] == ("192.0.2.1", 80):
            raise unreachable
        return begin(*found)

    monkeypatch.setattr(dialing, "_begin_to_connect", begin_to_connect)
    resolve(("192.0.2.1", 80), refused())
    assert isinstance(play(lambda t: failure(t.send(MANY, 5))).__cause__, ConnectionRefusedError)
    resolve(("192.0.2.1", 80))
    assert play(lambda t: failure(t.send(MANY, 5))).__cause__ is unreachable
    resolve()
    assert "no address" in str(play(lambda t: failure(t.send(MANY, 5))))


def test_address_families_alternate() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    found = [(six, 1), (six, 2), (six, 3), (four, 4), (four, 5)]
    assert interleave_families(found) == [(six, 1), (four, 4), (six, 2), (four, 5), (six, 3)]
    assert interleave_families([]) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_needs_no_resolver(host: str) -> None:
    found = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
    assert [(*each[:3], each[4][:2]) for each in found] == [
        (*each[:3], each[4]) for each in literal(host, 80)
    ]


@pytest.mark.parametrize("host", ["localhost", "1.2.3", "", "a\0b", "\udc80"])
def test_a_name_needs_one(host: str) -> None:
    assert literal(host, 80) == []


def test_an_address_of_a_link_keeps_its_scope(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """anyio writes it behind the address, where `connect` overlooks it; macOS reads over it."""
    index, name = socket.if_nameindex()[0]
    parse = socket.inet_pton
    monkeypatch.setattr(
        socket, "inet_pton", lambda family, text: parse(family, text.partition("%")[0])
    )

    async def scenario(_: AnyioTransport) -> Any:
        return await look_up(f"fe80::1%{name}", 80)

    assert [each[4] for each in play(scenario)] == [("fe80::1", 80, 0, index)]


def test_a_name_is_looked_up_where_no_thread_can_be_started(
    play: Play, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a function that `atexit` calls, for example."""

    async def getaddrinfo(*args: Any, **options: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    with scripted.ScriptedServer(scripted.echo) as server:
        server.url = f"http://localhost:{server.port}"
        assert play(lambda t: t.send(get(server), 5)).status == 200
