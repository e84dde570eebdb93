"""Receive a webhook: subscribe, run a workflow, verify the delivery, unsubscribe.

The real service must reach this machine: name its address, `https://hooks.example.com` say, with
`FLOWMAESTRO_WEBHOOK_URL`, and send what comes there to port 8080.
"""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from threading import Thread
from typing import Set

from service import WORKFLOW, service

from flowmaestro import FlowMaestroClient, webhooks

ADDRESS = os.environ.get("FLOWMAESTRO_WEBHOOK_URL")


class Receiver(BaseHTTPRequestHandler):
    """Answers at once, and hands each delivery on once."""

    secret = ""
    seen: Set[str] = set()
    events: Queue[webhooks.WebhookEvent] = Queue()

    def do_POST(self) -> None:
        """One delivery. A status other than 2xx makes FlowMaestro deliver it again."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        signature = self.headers.get(webhooks.SIGNATURE_HEADER, "")
        try:
            event = webhooks.parse(body, signature, self.secret)
        except webhooks.WebhookVerificationError:
            self.send_error(401)
            return
        self.send_response(204)
        self.end_headers()
        delivery = self.headers.get(webhooks.DELIVERY_ID_HEADER, "")
        if delivery not in self.seen:  # the same delivery may come again
            self.seen.add(delivery)
            self.events.put(event)

    def log_message(self, *_: object) -> None:
        """Nothing: the default writes each request to standard error."""


def main() -> None:
    """Subscribe, run, and wait for what is delivered."""
    with (
        HTTPServer(("127.0.0.1", 8080 if ADDRESS else 0), Receiver) as server,
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
