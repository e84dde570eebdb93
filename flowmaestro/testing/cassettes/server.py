"""A cassette over a loopback socket: HTTP/1.1, one chunk for each recorded piece of a body."""

from __future__ import annotations

import json
import math
import select
import socket
from contextlib import contextmanager
from typing import ContextManager, Generator, List, Sequence

from flowmaestro.testing.cassettes.jsonlines import CassetteError
from flowmaestro.testing.cassettes.player import CassetteMismatch, Player
from flowmaestro.testing.conformance.scripted_server import (
    CHUNKED,
    Peer,
    ScriptedServer,
    chunk,
    reply,
)
from flowmaestro.testing.virtual.playback import Quiet, Step
from flowmaestro_core.http.messages import Phase, Request, ResponseHead, TransportFailure

APART = 0.01
"""Seconds between two pieces, so that a reader that reads at once gets one at a time."""


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
        keeps = True
        while keeps and (received := peer.read_request()) is not None:
            url = peer.server.url + received.target
            request = Request(received.method, url, received.headers, received.body)
            try:
                steps = player.pop(request).steps
            except CassetteMismatch as mismatch:
                unknown.append(mismatch)
                peer.send(_refusal(mismatch))
            else:
                keeps = _replay(peer, steps, speed, with_body=received.method != "HEAD")

    with ScriptedServer(converse) as server:
        yield server.url
    if unknown:
        raise unknown[0]


def _refusal(mismatch: CassetteMismatch) -> bytes:
    error = {"error": {"code": "not_in_the_cassette", "message": str(mismatch)}}
    headers = [("Content-Type", "application/json")]
    return reply(json.dumps(error).encode(), status="501 Not In The Cassette", headers=headers)


def _replay(peer: Peer, steps: Sequence[Step], speed: float, *, with_body: bool) -> bool:
    """Play the steps of a reply; whether the connection can be used for more.

    A failure is replayed by leaving the client, or by being silent until its time is up.
    """
    has_begun = has_piece = False
    for step in steps:
        if isinstance(step, ResponseHead):
            has_begun, with_body = True, with_body and step.status not in (204, 304)
            peer.send(_head(step, with_body=with_body))
        elif isinstance(step, TransportFailure):
            if not has_begun and step.phase is Phase.REPLY_BROKEN:
                peer.send(_head(ResponseHead(200, {}), with_body=with_body))
            if step.timed_out:
                _is_left(peer, math.inf)
            return False
        elif isinstance(step, Quiet):
            if _is_left(peer, step.seconds / speed):
                return False
        elif with_body:
            if has_piece and _is_left(peer, APART):
                return False
            has_piece = True
            peer.send(chunk(step))
    if with_body:
        peer.send(chunk(b""))
    return True


def _head(head: ResponseHead, *, with_body: bool) -> bytes:
    headers = [*head.headers.pairs, *([CHUNKED] if with_body else [])]
    return reply(status=f"{head.status} Recorded", headers=headers, length=False)


def _is_left(peer: Peer, seconds: float) -> bool:
    """Wait; whether the client has left, or asks for more, before so many seconds have passed."""
    left, _, _ = select.select([peer.sock], [], [], None if seconds == math.inf else seconds)
    return bool(left)
