"""A cassette over a loopback socket: HTTP/1.1, one chunk for each recorded piece of a body."""

from __future__ import annotations

import json
import math
import select
import socket
from contextlib import contextmanager
from typing import ContextManager, Generator, List, Optional

from flowmaestro.testing.cassettes.exchange import CassetteError, CassetteMismatch, Exchange
from flowmaestro.testing.cassettes.player import Player
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    Peer,
    ScriptedServer,
    chunk,
    reply,
)
from flowmaestro.testing.virtual.playback import Quiet
from flowmaestro_core.http.messages import Phase, Request, ResponseHead, TransportFailure

APART = 0.01
"""Seconds between two pieces, so that a reader that reads at once gets one at a time."""
_NO_BODY = (204, 304)


def replaying_server(player: Player, speed: float) -> ContextManager[str]:
    """See `Cassette.server`."""
    if not speed > 0:
        raise ValueError(f"speed must be more than 0, not {speed!r}")
    for exchange in player.left:
        for step in exchange.steps:
            if isinstance(step, TransportFailure) and step.phase is Phase.NOT_SENT:
                raise CassetteError(
                    f"{player.name}, line {exchange.line}: a request that was never sent cannot be "
                    "replayed by a server; replay it with transport()"
                )
    return _serving(player, speed)


@contextmanager
def _serving(player: Player, speed: float) -> Generator[str, None, None]:
    unknown: List[CassetteMismatch] = []

    def converse(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            received = peer.read_request()
            if received is None:
                return
            url = peer.server.url + received.target
            request = Request(received.method, url, received.headers, received.body)
            try:
                exchange = player.pop(request)
            except CassetteMismatch as mismatch:
                unknown.append(mismatch)
                peer.send(_refusal(mismatch))
                continue
            if not _Replay(peer, speed, with_body=received.method != "HEAD").play(exchange):
                return

    with ScriptedServer(converse) as server:
        yield server.url
    if unknown:
        raise unknown[0]


def _refusal(mismatch: CassetteMismatch) -> bytes:
    error = {"error": {"code": "not_in_the_cassette", "message": str(mismatch)}}
    headers = [("Content-Type", "application/json")]
    return reply(json.dumps(error).encode(), status="501 Not In The Cassette", headers=headers)


class _Replay:
    """Plays one exchange over one connection."""

    def __init__(self, peer: Peer, speed: float, *, with_body: bool) -> None:
        self._peer = peer
        self._speed = speed
        self._with_body = with_body
        self._head: Optional[ResponseHead] = None

    def play(self, exchange: Exchange) -> bool:
        """Whether the connection can be used for more."""
        pieces = 0
        for step in exchange.steps:
            if isinstance(step, Quiet):
                if not self._wait(step.seconds / self._speed):
                    return False
            elif isinstance(step, ResponseHead):
                self._begin(step)
            elif isinstance(step, TransportFailure):
                self._fail(step)
                return False
            elif self._with_body:
                if pieces and not self._wait(APART):
                    return False
                pieces += 1
                self._peer.send(chunk(step))
        if self._with_body:
            self._peer.send(chunk(b""))
        return True

    def _begin(self, head: ResponseHead) -> None:
        self._head = head
        self._with_body = self._with_body and head.status not in _NO_BODY
        framing = [CHUNKED] if self._with_body else []
        self._peer.send(
            reply(
                status=f"{head.status} Recorded",
                headers=[*head.headers.pairs, *framing],
                length=False,
            )
        )

    def _fail(self, failure: TransportFailure) -> None:
        """Have the client come to the same failure, by leaving it or by being silent."""
        if self._head is None and failure.phase is Phase.REPLY_BROKEN:
            self._begin(ResponseHead(200, {}))
        if failure.timed_out:
            self._wait(math.inf)

    def _wait(self, seconds: float) -> bool:
        """Whether the client was still there at the end."""
        limit = None if seconds == math.inf else seconds
        gone, _, _ = select.select([self._peer.sock], [], [], limit)
        return not gone
