"""One host name means one server, on every transport."""

from __future__ import annotations

import socket
import sys
from typing import Any, List

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_transports.http11.hosts import ascii_host, with_ascii_host
from tests.harness.runners import Runner


@pytest.mark.parametrize(
    ("host", "found"),
    [("a.example", "a.example"), ("straße.test", "xn--strae-oqa.test"), ("Ä.test", "xn--4ca.test")],
)
def test_host_is_encoded_by_idna_2008(host: str, found: str) -> None:
    assert ascii_host(host) == found
    assert with_ascii_host(f"http://{host}:80/ä") == f"http://{found}:80/ä"


def test_host_that_idna_2008_does_not_allow_is_refused() -> None:
    with pytest.raises(TransportFailure, match="write it in punycode") as caught:
        ascii_host("a\u200db.test")  # a joiner, which IDNA 2003 drops in silence
    assert caught.value.permanent


def test_other_host_is_refused_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idna", None)
    assert ascii_host("a.example") == "a.example"
    with pytest.raises(TransportFailure, match="write it in punycode"):
        ascii_host("ä.test")


def test_every_transport_looks_up_the_same_host(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: List[Any] = []

    def look_up(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(host.decode() if isinstance(host, bytes) else host)
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with runner() as transport, pytest.raises(TransportFailure) as caught:
        transport.send(Request("GET", "http://straße.test/", Headers()), 5.0)
    assert caught.value.phase is Phase.NOT_SENT
    assert set(asked) == {"xn--strae-oqa.test"}
