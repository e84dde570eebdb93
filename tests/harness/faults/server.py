"""The server of the matrix: it plays a recording, breaks it off, and goes on as scripted."""

from __future__ import annotations

import json
import random
import socket
import time
from typing import Any, Dict, List

from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    Peer,
    ReceivedRequest,
    ScriptedServer,
    chunk,
    reply,
)
from tests.harness.faults.cells import (
    CLEAN_END,
    ENDED,
    GARBAGE,
    HOPELESS,
    RESET,
    SILENT,
    STALL,
    UNAVAILABLE,
    Cell,
)
from tests.harness.faults.recording import SEED, TERMINAL, Block

REFUSALS = 2
"""How often a reconnection is answered with 503 before it is let in."""

TIME_TO_READ = 0.005
"""Seconds before a reset, which may outrun what was sent just before, and before garbage that would
otherwise make the head that came with it look broken, too."""

KEEPALIVE_INTERVAL = 0.05

_STREAM_HEAD = reply(headers=[("Content-Type", "text/event-stream"), CHUNKED], length=False)


class Script:
    """One cell, as the server sees it."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._random = random.Random(f"{SEED}{cell.execution_id}")
        self._openings = 0
        self._ended = False

    def status(self, peer: Peer) -> None:
        """Answer `GET /executions/{id}`."""
        if self.cell.recovery == HOPELESS and self._openings:
            peer.send(self._unavailable())
            return
        ended = self._ended
        data: Dict[str, Any] = {
            "id": self.cell.execution_id,
            "status": "completed" if ended else "running",
            "outputs": {"message": "Grüße"} if ended else None,
        }
        peer.send(reply(json.dumps({"data": data}).encode(), headers=[_JSON]))

    def events(self, peer: Peer, request: ReceivedRequest) -> None:
        """Answer `GET /executions/{id}/events`."""
        opening, self._openings = self._openings, self._openings + 1
        cell = self.cell
        refusals = REFUSALS if cell.fault == UNAVAILABLE else 0
        if opening == 0:
            peer.send(_STREAM_HEAD)
            for piece in cell.recording.until(cell.point):
                peer.send(chunk(piece))
            self._ended = cell.point == len(cell.recording.content)
            self._break(peer)
        elif cell.recovery == HOPELESS:
            self._break_again(peer)
        elif opening <= refusals:
            peer.send(self._unavailable())
        else:
            peer.send(_STREAM_HEAD)
            self._go_on(peer, request)

    def _break(self, peer: Peer) -> None:
        if self.cell.fault == RESET:
            time.sleep(TIME_TO_READ)
            peer.reset()
        elif self.cell.fault == CLEAN_END:
            peer.send(chunk(b""))
        elif self.cell.fault == STALL:
            peer.wait_closed()
        elif self.cell.fault == UNAVAILABLE:
            peer.close()
        elif self.cell.garbles_events:
            peer.send(chunk(self._garbage() + b"\n\n") + chunk(b""))
        else:
            time.sleep(TIME_TO_READ)
            peer.send(b"no length: " + self._garbage() + b"\r\n")
            peer.wait_closed()

    def _break_again(self, peer: Peer) -> None:
        if self.cell.fault == UNAVAILABLE:
            peer.send(self._unavailable())
        elif self.cell.fault == GARBAGE and not self.cell.garbles_events:
            peer.send(self._garbage() + b"\r\n\r\n")
            peer.close()
        else:
            peer.send(_STREAM_HEAD)
            self._break(peer)

    def _go_on(self, peer: Peer, request: ReceivedRequest) -> None:
        recording = self.cell.recording
        self._ended = self._ended or self.cell.recovery in (ENDED, SILENT)
        if self.cell.recovery == SILENT:
            _keep_alive(peer, recording.connected)
            return
        for block in (recording.connected, *self._rest(request)):
            peer.send(chunk(block.content))
        peer.send(chunk(b""))  # who found this opening too slow may resume once more

    def _rest(self, request: ReceivedRequest) -> List[Block]:
        recording = self.cell.recording
        if self.cell.recovery == ENDED:
            return [_end_at_once(self.cell)]
        if not self.cell.ids:
            return recording.events_unfinished_at(self.cell.point)
        resumed = "last-event-id" in request and request["last-event-id"].isdigit()
        number = int(request["last-event-id"]) if resumed else 0
        return recording.events_after(number) or [_end_at_once(self.cell)]

    def _garbage(self) -> bytes:
        return bytes(self._random.choices(range(256), k=200))

    def _unavailable(self) -> bytes:
        status = "503 Service Unavailable"
        if self.cell.point % 2:
            return reply(b"<h1>Try again later</h1>", status=status, headers=[_HTML])
        body = {"error": {"code": "service_unavailable", "message": "try again later"}}
        return reply(json.dumps(body).encode(), status=status, headers=[_JSON])


_JSON = ("Content-Type", "application/json")
_HTML = ("Content-Type", "text/html")


def _keep_alive(peer: Peer, connected: Block) -> None:
    """Say nothing but that the connection lives, until the client closes it."""
    peer.send(chunk(connected.content))
    peer.sock.settimeout(KEEPALIVE_INTERVAL)
    while True:
        try:
            if not peer.sock.recv(1024):
                return
        except socket.timeout:
            peer.send(chunk(b": keepalive\n\n"))


def _end_at_once(cell: Cell) -> Block:
    data: Dict[str, Any] = {"execution_id": cell.execution_id, "status": "completed", "outputs": {}}
    own_id = "id: end\n" if cell.ids else ""
    return Block(f"event: {TERMINAL}\n{own_id}data: {json.dumps(data)}\n\n".encode(), TERMINAL)


class FaultServer(ScriptedServer):
    """All cells on one port."""

    def __init__(self) -> None:
        super().__init__(self._converse)
        self._scripts: Dict[str, Script] = {}

    def stage(self, cell: Cell) -> None:
        """Be ready for the client of this cell."""
        self._scripts[cell.execution_id] = Script(cell)

    def _converse(self, peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sock.settimeout(None)  # a kept connection may idle for as long as its client likes
        while peer.sock.fileno() != -1:
            request = peer.read_request()
            if request is None:
                return
            _, _, rest = request.target.partition("/executions/")
            execution_id, _, events = rest.partition("/")
            script = self._scripts[execution_id]
            if events:
                script.events(peer, request)
            else:
                script.status(peer)
