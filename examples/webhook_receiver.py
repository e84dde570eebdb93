"""Receive a webhook: subscribe, run a workflow, verify the delivery, unsubscribe.

The deployed server must reach this machine: name its address, `https://hooks.example.com` say, with
`FLOWMAESTRO_WEBHOOK_URL`, and send what comes there to port 8080.
"""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Lock, Thread
from typing import Set

from service import WORKFLOW, service

from flowmaestro import FlowMaestroClient, webhooks

LARGEST_BODY = 1024 * 1024

ADDRESS = os.environ.get("FLOWMAESTRO_WEBHOOK_URL")


class Receiver(BaseHTTPRequestHandler):
    """Answers at once, and hands each event on once."""

    timeout = 10  # Seconds without a byte, after which a connection is closed.
    secret = ""
    seen: Set[str] = set()
    lock = Lock()
    events: Queue[webhooks.WebhookEvent] = Queue()

    def do_POST(self) -> None:
        """Take one delivery. A status other than 2xx makes FlowMaestro deliver it again."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            self.send_error(413)
            return
        body = self.rfile.read(int(length))
        signature = self.headers.get(webhooks.SIGNATURE_HEADER, "")
        try:
            event = webhooks.parse(body, signature, self.secret)
        except webhooks.WebhookVerificationError:
            self.send_error(401)
            return
        self.send_response(204)
        self.end_headers()
        with self.lock:
            if event["id"] in self.seen:  # Deliveries repeat; the id is signed.
                return
            self.seen.add(event["id"])
        self.events.put(event)

    def log_message(self, *_: object) -> None:
        """Do nothing: the default writes each request to standard error."""


def main() -> None:
    """Subscribe, run, and wait for what is delivered."""
    with (
        ThreadingHTTPServer(("127.0.0.1", 8080 if ADDRESS else 0), Receiver) as server,
        FlowMaestroClient() as client,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        url = ADDRESS or f"http://127.0.0.1:{server.server_port}"
        hook = client.webhooks.create("Example", url, ["execution.completed"])["data"]
        Receiver.secret = hook["secret"]
        try:
            client.workflows.run(WORKFLOW, inputs={"name": "Ada"})
            event = Receiver.events.get(timeout=30)
        finally:
            client.webhooks.delete(hook["id"])
            server.shutdown()
    print(f"{event['event']}: {event['data']['status']}")


if __name__ == "__main__":
    with service():
        main()
