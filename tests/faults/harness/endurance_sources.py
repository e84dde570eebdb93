"""Servers of one long stream: ten thousand events in step with their reader, or one huge event."""

from __future__ import annotations

import json
import socket
import threading
from typing import Iterator

from scripted_server import CHUNKED, Peer, ScriptedServer, chunk, reply

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
    """Sends one event of `size` bytes, and the terminal one."""

    def __init__(self, size: int) -> None:
        super().__init__(self._converse)
        head = b'event: node:stream\ndata: {"output": "'
        tail = b'"}\n\n'
        self.text_length = size - len(head) - len(tail)
        self._content = memoryview(head + b"x" * self.text_length + tail + _TERMINAL)

    def _converse(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.read_request()
        peer.send(_HEAD)
        for piece in self._pieces():
            peer.send(chunk(piece))
        peer.send(chunk(b""))

    def _pieces(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), PIECE):
            yield bytes(self._content[start : start + PIECE])
