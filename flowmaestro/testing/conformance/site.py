"""The sites that answer checks with responses, not with scripted bytes.

A site is a loopback server, as here, or another target of a transport, such as one in memory.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Callable, Generator, Union

from flowmaestro.testing.conformance.scripted_server import (
    HEAD_CHUNKED,
    PATIENCE,
    Peer,
    ReceivedRequest,
    ScriptedServer,
    chunk,
    reply,
)
from flowmaestro_core.http.messages import Request, Response

_POLL_SECONDS = 0.02
"""Seconds between two looks whether the client has disconnected: short beside the time limits."""


class LiveReply:
    """A response with status 200 that the check controls: `begin`, `send`, `end`.

    With `held`, its head is held back until `begin`. Safe to use from several threads.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.hung_up: threading.Event = threading.Event()
        """Set when the server stops before the end: the client has closed the connection.

        The loopback server also stops after a minute.
        """
        self.asked: threading.Event = threading.Event()
        """Set when this response was used to answer a request."""
        self.woken: Callable[[], None] = lambda: None
        """Called after each `begin`, `send` and `end`."""
        self.pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        """The pieces to send next; `b""` is the end."""
        self.begun: threading.Event = threading.Event()
        """Set as soon as the head may be sent."""
        if not held:
            self.begun.set()

    def begin(self) -> None:
        """Let the server send the head of this response, without waiting."""
        self.begun.set()
        self.woken()

    def send(self, data: bytes) -> None:
        """Queue some bytes of the body for the server to send, without waiting."""
        self.pieces.put(data)
        self.woken()

    def end(self) -> None:
        """End the body."""
        self.send(b"")


Respond = Callable[[Request], Union[Response, LiveReply]]
"""A function that answers a request to a site."""


@contextlib.contextmanager
def loopback_site(respond: Respond) -> Generator[str, None, None]:
    """Serve a site over a loopback socket; the `with` block gets its URL."""

    def converse(peer: Peer) -> None:
        while True:
            received = peer.read_request()
            if received is None:
                return
            given = respond(_request(received, peer.server.url))
            if isinstance(given, Response):
                peer.send(_whole(received.method, given))
            elif not _play(given, peer):
                return

    with ScriptedServer(converse) as server:
        yield server.url


def _request(received: ReceivedRequest, url: str) -> Request:
    return Request(received.method, url + received.target, received.headers, received.body)


def _whole(method: str, response: Response) -> bytes:
    bodiless = response.status in (204, 304)
    data = reply(
        response.body,
        status=f"{response.status} Scripted",
        headers=response.headers.pairs,
        length=not bodiless,
    )
    return data[: len(data) - len(response.body)] if bodiless or method == "HEAD" else data


def _play(live: LiveReply, peer: Peer) -> bool:
    """Send each piece that the check passes to `live`, until the check ends the body.

    Return True then. Return False if the client disconnects first, or if the check does not end the
    body within `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    head = HEAD_CHUNKED
    # The client may also disconnect during a send.
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < deadline and not peer.has_hung_up():
            if not live.begun.wait(_POLL_SECONDS):
                continue
            peer.send(head)
            head = b""
            with contextlib.suppress(queue.Empty):
                data = live.pieces.get(timeout=_POLL_SECONDS)
                peer.send(chunk(data))
                if not data:
                    return True
    live.hung_up.set()
    return False
