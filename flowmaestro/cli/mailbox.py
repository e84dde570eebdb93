"""Where the demonstration receives its webhook deliveries: over HTTP, or from a fake in memory."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, List, NamedTuple, Protocol, cast

from flowmaestro.cli import CommandFailed
from flowmaestro.testing import FakeFlowMaestro
from flowmaestro.webhooks import SIGNATURE_HEADER


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


class HttpMailbox(HTTPServer):
    """An HTTP server on a free loopback port; what is posted waits there until `next` takes it."""

    timeout = 5.0
    """Seconds to wait for a delivery."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/webhook"
        self.received: List[Delivery] = []

    def next(self) -> Delivery:
        """As `Mailbox.next`."""
        self.handle_request()
        if not self.received:
            raise CommandFailed(f"no webhook delivery came within {self.timeout:g} s")
        return self.received.pop()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Take the body's bytes as they are: the signature covers them."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        mailbox = cast("HttpMailbox", self.server)
        mailbox.received.append(Delivery(body, self.headers.get(SIGNATURE_HEADER, "")))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal to the demonstration."""


class MemoryMailbox:
    """Takes deliveries from a fake in memory, which has nobody to send them to."""

    url = "https://receiver.example.com/webhook"

    def __init__(self, fake: FakeFlowMaestro) -> None:
        self._fake = fake

    def next(self) -> Delivery:
        """As `Mailbox.next`."""
        for delivery in reversed(self._fake.deliveries):
            if delivery.request.url == self.url:
                signature = delivery.request.headers.get(SIGNATURE_HEADER) or ""
                return Delivery(delivery.request.body, signature)
        raise CommandFailed("no webhook delivery was made")
