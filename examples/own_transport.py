"""A transport of one's own, on nothing but the standard library: it streams events as they come."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

from service import WORKFLOW, service

from flowmaestro import FlowMaestroClient
from flowmaestro_transports import Headers, Phase, Request, Response, TransportFailure


class StandardLibraryTransport:
    """One connection for each request. The conformance kit tells which rules it breaks."""

    patient = False  # a read that times out loses the body, so streams reconnect after it

    def send(self, request: Request, timeout: float) -> Response:
        """Send a request and return the whole response."""
        reply = self.open(request, timeout)
        pieces = iter(lambda: reply.read(timeout), b"")
        try:
            return Response(reply.status, reply.headers, b"".join(pieces))
        finally:
            reply.close()

    def open(self, request: Request, timeout: float) -> OpenReply:
        """Return the head of the response; a failure's phase decides whether the SDK retries."""
        url = urlsplit(request.url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection, phase = kind(url.netloc, timeout=timeout), Phase.NOT_SENT
        headers = {**request.headers, "accept-encoding": "identity"}
        try:
            connection.connect()
            phase = Phase.MAYBE_PROCESSED
            target = url._replace(scheme="", netloc="").geturl()
            connection.request(request.method, target, request.body or None, headers)
            return OpenReply(connection)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise TransportFailure(phase, str(error)) from error

    def sleep(self, seconds: float) -> None:
        """Sleep on the clock of the system."""
        time.sleep(seconds)

    def now(self) -> float:
        """Return the time on the clock of the system."""
        return time.monotonic()

    def close(self) -> None:
        """Nothing is kept between two requests."""


class OpenReply:
    """A reply whose body is still open."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.socket = connection.sock
        self.reply = connection.getresponse()
        self.status = self.reply.status
        self.headers = Headers(self.reply.getheaders())

    def read(self, patience: float) -> bytes:
        """Return some bytes, and `b""` at the end."""
        try:
            self.socket.settimeout(patience)
            return self.reply.read1(65536)
        except (OSError, http.client.HTTPException) as error:
            raise TransportFailure(Phase.REPLY_BROKEN, str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self.reply.close()
        self.socket.close()


def main() -> None:
    """Follow a run over it."""
    with FlowMaestroClient(transport=StandardLibraryTransport()) as client:
        run = client.workflows.run(
            WORKFLOW, inputs={"name": "Ada"}, on_event=lambda event: print(event["type"])
        )
        print(run["outputs"])


if __name__ == "__main__":
    with service():
        main()
