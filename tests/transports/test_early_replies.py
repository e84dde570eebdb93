"""A server may answer before it has read the whole request (RFC 9112, 9.5)."""

from __future__ import annotations

import ssl
import threading
from typing import Any, List

import pytest

from tests.harness.runners import OURS, Runner, post

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


@pytest.mark.parametrize("runner", OURS, ids=[runner.name for runner in OURS])
def test_another_reply_does_not(runner: Runner, scripted: Any) -> None:
    lengths: List[int] = []
    has_read = threading.Event()

    def handler(peer: Any) -> None:
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + scripted.reply(b"go on"))
        lengths.append(len(peer.read_request().body))
        has_read.set()

    with scripted.ScriptedServer(handler) as server, runner() as transport:
        assert transport.send(post(server, LONG)).body == b"go on"
        has_read.wait(30)
    assert lengths == [len(LONG)]
