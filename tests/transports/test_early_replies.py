"""A server may answer before it has read the whole request (RFC 9112, 9.5)."""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import Any

import pytest

from flowmaestro_core.http.messages import Phase
from flowmaestro_transports.http11 import round_trip
from tests.harness.runners import OURS, Runner, fails, post

LONG = bytes(30 << 20)
"""More than the buffers on the way take."""


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("runner", OURS, ids=[runner.name for runner in OURS])
def test_an_error_ends_the_sending(
    runner: Runner, scripted: Any, server_tls: ssl.SSLContext, ca_file: str, encrypted: bool
) -> None:
    answered = threading.Event()

    def handler(peer: Any) -> None:
        while b"\r\n\r\n" not in peer.sock.recv(65536):
            pass
        peer.send(scripted.reply(b"too long", status="413 Content Too Large"))
        answered.wait(30)  # and reads no more

    tls = server_tls if encrypted else None
    with scripted.ScriptedServer(handler, tls=tls) as server, runner(verify=ca_file) as transport:
        reply = transport.send(post(server, LONG))
        answered.set()
    assert (reply.status, reply.body) == (413, b"too long")


UPLOAD = b"0123456789abcdef" * (20 << 16)
"""20 MiB: more than the buffers of both sockets hold together."""


def echo_while_reading(peer: Any) -> None:
    """Respond at once, then send each piece of the body back before the next one is read."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.sock.recv(65536)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(UPLOAD))
    data = data.partition(b"\r\n\r\n")[2]
    left = len(UPLOAD) - len(data)
    with contextlib.suppress(OSError):  # The client gives up if it gets too much.
        peer.send(data)
        while left:
            data = peer.sock.recv(65536)
            left -= len(data)
            peer.send(data)
            if not data:
                return


@pytest.mark.parametrize(("method", "encrypted"), [("send", False), ("open", True)])
@pytest.mark.parametrize("runner", OURS, ids=[runner.name for runner in OURS])
def test_response_is_received_while_a_long_request_is_sent(
    runner: Runner,
    scripted: Any,
    server_tls: ssl.SSLContext,
    ca_file: str,
    method: str,
    encrypted: bool,
) -> None:
    tls = server_tls if encrypted else None
    with (
        scripted.ScriptedServer(echo_while_reading, tls=tls) as server,
        runner(verify=ca_file) as transport,
    ):
        if method == "send":
            body = transport.send(post(server, UPLOAD), 20.0).body
        else:
            body = transport.open(post(server, UPLOAD), 20.0).read_all()
    assert body == UPLOAD


@pytest.mark.parametrize("runner", OURS, ids=[runner.name for runner in OURS])
def test_early_body_beyond_the_limit_ends_the_sending(
    runner: Runner, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller of `open` has not taken any of the body, so all of it is held in memory."""
    monkeypatch.setattr(round_trip, "MAX_BODY", 1 << 20)
    with (
        scripted.ScriptedServer(echo_while_reading) as server,
        runner() as transport,
        fails(Phase.REPLY_BROKEN, "more than 1048576 bytes"),
    ):
        transport.open(post(server, UPLOAD), 20.0)
