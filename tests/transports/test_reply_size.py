"""`max_reply_size` bounds the memory that a reply takes, on every transport."""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any, Iterator

import pytest

from flowmaestro_core.http.messages import Headers, Request
from tests.harness.runners import Runner

LIMIT = 1_000_000
SIZE = 60_000_000
"""Bytes of the decoded reply."""


def compressed() -> bytes:
    """A reply of `SIZE` bytes in 58 KB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return b"".join([*(packer.compress(b"x" * 1_000_000) for _ in range(60)), packer.flush()])


@pytest.fixture
def peak() -> Iterator[Any]:
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", ["gzip", "identity"])
def test_reply_over_the_limit_takes_twice_the_limit_of_memory(
    runner: Runner, scripted: Any, peak: Any, coding: str
) -> None:
    body = compressed() if coding == "gzip" else b"x" * 10_000_000
    said = scripted.reply(body, headers=[("Content-Encoding", coding)])

    def handler(peer: Any) -> None:
        while peer.read_request() is not None:
            peer.send(said)

    with scripted.ScriptedServer(handler) as server, runner() as transport:
        transport.send(Request("GET", server.url, Headers(), b"", 10))  # This imports modules.
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        response = transport.send(Request("GET", server.url, Headers(), b"", LIMIT), 60.0)
        assert LIMIT < len(response.body) <= LIMIT + 2**20
        assert peak() - before <= 2 * LIMIT + 2**20


def test_reply_within_the_limit_is_whole(runner: Runner, scripted: Any) -> None:
    said = scripted.reply(b"x" * 300_000)
    with scripted.ScriptedServer(scripted.answering(said)) as server, runner() as transport:
        request = Request("GET", server.url, Headers(), b"", 300_000)
        assert len(transport.send(request).body) == 300_000
