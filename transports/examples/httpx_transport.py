"""httpx for sync clients. It keeps to the patience of a body's first read."""

from __future__ import annotations

import httpx
from httpx_attempt import ERRORS, Attempt
from impatient_body import ImpatientBody
from impatient_transport import ImpatientTransport
from shortfalls import HTTPX

from flowmaestro_transports import Request, ResponseHead


class HttpxTransport(ImpatientTransport[httpx.Client]):
    """Made of two `httpx.Client`."""

    known_failures = HTTPX

    def begin(self, pool: httpx.Client, request: Request, timeout: float) -> ImpatientBody:
        attempt = Attempt()
        limits = {"pool": timeout, "connect": timeout, "write": timeout, "read": timeout}
        sent = attempt.request(request, attempt.trace, limits)
        try:
            reply = pool.send(sent, stream=True, auth=None, follow_redirects=False)
        except ERRORS as error:
            raise attempt.failure(error) from error
        pieces = reply.iter_bytes()

        def read(patience: float) -> bytes:
            limits["read"] = patience
            return next(pieces, b"")

        head = ResponseHead(reply.status_code, reply.headers.multi_items())
        connection = reply.extensions["network_stream"].get_extra_info("socket")
        return ImpatientBody(head, read, attempt.failure, connection, reply.close)

    def close_pool(self, pool: httpx.Client) -> None:
        pool.close()
