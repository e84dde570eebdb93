"""What came whole is given before what is broken behind it, while its reader was busy, too."""

from __future__ import annotations

import gzip
import threading
import zlib
from typing import Any, Dict, Tuple

import pytest

from flowmaestro_core.http.messages import Phase
from tests.harness.runners import Runner, fails, get

EVENTS = b"".join(b"event: node:started\ndata: %d\n\n" % number for number in range(3))
CHUNKED = b"Transfer-Encoding: chunked\r\n"
GZIP = CHUNKED + b"Content-Encoding: gzip\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def begun() -> bytes:
    coder = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return coder.compress(EVENTS) + coder.flush(zlib.Z_SYNC_FLUSH)


REPLIES: Dict[str, Tuple[bytes, bytes]] = {
    "a bad chunk size": (CHUNKED, chunk(EVENTS) + b"zz\r\n"),
    "damage to gzip": (GZIP, chunk(begun() + b"\xff" * 40)),
    "damage in a chunk of its own": (GZIP, chunk(begun()) + chunk(b"\xff" * 40)),
    "a wrong checksum": (GZIP, chunk(gzip.compress(EVENTS)[:-8] + bytes(8))),
    "bytes behind gzip": (GZIP, chunk(gzip.compress(EVENTS) + b"junk")),
    "gzip cut off": (GZIP, chunk(begun()) + b"0\r\n\r\n"),
}
"""Fields and body. What is wrong with them shows although the server then says nothing more."""
CUT_OFF: Dict[str, Tuple[bytes, bytes]] = {
    "half a chunk": (CHUNKED, b"%x\r\n%s" % (1000, EVENTS)),
    "a body cut off": (b"Content-Length: 1000\r\n", EVENTS),
}


@pytest.mark.parametrize("name", [*REPLIES, *CUT_OFF])
def test_complete_bytes_come_before_the_failure(runner: Runner, scripted: Any, name: str) -> None:
    fields, body = {**REPLIES, **CUT_OFF}[name]
    opened = threading.Event()

    def handler(peer: Any) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n%s\r\n" % fields)
        opened.wait(60)
        peer.send(body)
        if name in REPLIES:
            peer.wait_closed()

    with scripted.ScriptedServer(handler) as server, runner() as transport:
        reply = transport.open(get(server))
        opened.set()
        transport.sleep(0.02)  # in which an event loop sees all of it
        came = b""
        with fails(Phase.REPLY_BROKEN):
            while len(came) < len(EVENTS):
                came += reply.read(5.0) or b""
            reply.read(5.0)
        reply.close()
    assert came == EVENTS


def test_complete_bytes_in_the_segment_of_the_head_come_first(
    runner: Runner, scripted: Any
) -> None:
    """Where the library returns no response, the call fails, and the server may have acted."""
    head = b"HTTP/1.1 200 OK\r\n%s\r\n" % CHUNKED
    handler = scripted.answering(head + chunk(EVENTS) + b"zz\r\n")
    with scripted.ScriptedServer(handler) as server, runner() as transport:
        if runner.declares("a-malformed-chunk-behind-the-head"):
            with fails(Phase.REPLY_BROKEN):
                transport.open(get(server))
            return
        reply = transport.open(get(server))
        came = b""
        with fails(Phase.REPLY_BROKEN):
            while len(came) < len(EVENTS):
                came += reply.read(5.0) or b""
            reply.read(5.0)
        reply.close()
    assert came == EVENTS
