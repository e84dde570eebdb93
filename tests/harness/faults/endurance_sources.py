"""Servers of one long stream: ten thousand events in step with their reader, or one huge event."""

from __future__ import annotations

import json
import socket
import threading
from typing import Iterator, Optional

from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    Peer,
    ScriptedServer,
    chunk,
    reply,
)

BATCH = 100
PIECE = 64 * 1024

_HEAD = reply(headers=[("Content-Type", "text/event-stream"), CHUNKED], length=False)
_TERMINAL = b'event: execution:completed\ndata: {"outputs": {"done": true}}\n\n'


class Events(ScriptedServer):
    """Sends `count` numbered events, the next `BATCH` of them when told `more`.

    So whenever the reader has read a batch, nothing is under way or in a buffer.
    """

    def __init__(self, count: int) -> None:
        super().__init__(self._converse)
        self._batches = range(1, count + 1, BATCH)
        self._wanted = threading.Semaphore(0)

    def more(self) -> None:
        """Let the next batch go, or the terminal event."""
        self._wanted.release()

    def _converse(self, peer: Peer) -> None:
        peer.read_request()
        peer.send(_HEAD)
        for first in self._batches:
            self._wanted.acquire()
            peer.send(b"".join(map(_event, range(first, first + BATCH))))
        self._wanted.acquire()
        peer.send(chunk(_TERMINAL) + chunk(b""))


def _event(number: int) -> bytes:
    data = json.dumps({"type": "node:stream", "number": number, "nodeId": f"node {number % 7}"})
    return chunk(f"id: {number}\nevent: node:stream\ndata: {data}\n\n".encode())


class HugeEvent(ScriptedServer):
    """Sends one event of `size` bytes, of which `output` is nearly all, and the terminal one.

    `output` is a text of many `unit`s, or a list of the number 1; `length` is its length. The
    list is cut: each number stands on a line that begins with `line`. The bytes come in chunks
    of `piece`.
    """

    def __init__(
        self, size: int, unit: str = "x", *, line: Optional[str] = None, piece: int = PIECE
    ) -> None:
        super().__init__(self._converse)
        if line is None:
            self.length = size // len(unit.encode()) - 16
            output = f'"{unit * self.length}"'
        else:
            many = size // len(f"\n{line}1,") - 16
            self.length = many + 1
            output = "[" + f"\n{line}1," * many + f"\n{line}1]"
        event = f'event: node:stream\ndata: {{"output": {output}}}\n\n'
        self._content = memoryview(event.encode() + _TERMINAL)
        self._piece = piece

    def _converse(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.read_request()
        peer.send(_HEAD)
        for piece in self._pieces():
            peer.send(chunk(piece))
        peer.send(chunk(b""))

    def _pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), self._piece):
            yield bytes(self._content[start : start + self._piece])
