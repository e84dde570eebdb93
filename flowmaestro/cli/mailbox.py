"""Where the demonstration receives webhooks: a small HTTP receiver, and its stand-in in memory."""

from __future__ import annotations

import queue
import socketserver
import threading
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any, Callable, Generator, NamedTuple, Protocol

from anyio import to_thread

from flowmaestro.cli import CommandFailed
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.webhooks import SIGNATURE_HEADER

PATIENCE = 5.0
"""Seconds to wait for a delivery."""
LARGEST_BODY = 1024 * 1024


class Delivery(NamedTuple):
    """A webhook delivery as it came, not verified yet."""

    body: bytes
    signature: str


class Mailbox(Protocol):
    """Receives webhook deliveries at `url`."""

    @property
    def url(self) -> str:
        """Where to have webhooks delivered."""
        ...

    def next(self) -> Delivery:
        """Wait for the next delivery; raises `CommandFailed` when none comes."""
        ...


class AsyncMailbox:
    """A mailbox for an awaiting program."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    @property
    def url(self) -> str:
        """Where to have webhooks delivered."""
        return self._mailbox.url

    async def next(self) -> Delivery:
        """Wait for the next delivery; raises `CommandFailed` when none comes."""
        return await to_thread.run_sync(self._mailbox.next)


class Receiver(socketserver.TCPServer):
    """An HTTP server on a free loopback port that keeps what is posted to it."""

    def __init__(self) -> None:
        self._received: queue.Queue[Delivery] = queue.Queue()
        super().__init__(("127.0.0.1", 0), partial(_Handler, self._received.put))

    @property
    def url(self) -> str:
        """Where to have webhooks delivered."""
        return f"http://127.0.0.1:{self.server_address[1]}/webhook"

    def next(self) -> Delivery:
        """Wait for the next delivery; raises `CommandFailed` when none comes."""
        try:
            return self._received.get(timeout=PATIENCE)
        except queue.Empty:
            raise CommandFailed(f"no webhook delivery came within {PATIENCE:g} s") from None


class _Handler(BaseHTTPRequestHandler):
    """Hands every POST to `keep`."""

    def __init__(self, keep: Callable[[Delivery], None], *connection: Any) -> None:
        self._keep = keep
        super().__init__(*connection)

    def do_POST(self) -> None:
        """Take the body's bytes as they are: the signature covers them."""
        length = min(int(self.headers.get("Content-Length", 0)), LARGEST_BODY)
        body = self.rfile.read(length)
        self._keep(Delivery(body, self.headers.get(SIGNATURE_HEADER, "")))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal to the demonstration."""


@contextmanager
def receiving() -> Generator[Receiver, None, None]:
    """A receiver that listens while a `with` block lasts, in a thread of its own."""
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
            thread.join()


class MemoryMailbox:
    """Takes deliveries from a fake in memory, which has nobody to send them to."""

    url = "https://receiver.example.com/webhook"

    def __init__(self, fake: FakeFlowMaestro) -> None:
        self._fake = fake

    def next(self) -> Delivery:
        """The newest delivery; raises `CommandFailed` when there is none."""
        for delivery in reversed(self._fake.deliveries):
            if delivery.request.url == self.url:
                signature = delivery.request.headers.get(SIGNATURE_HEADER) or ""
                return Delivery(delivery.request.body, signature)
        raise CommandFailed("no webhook delivery was made")
