"""urllib3 for sync clients, from its version 2.1 on."""

from __future__ import annotations

from typing import Any

from impatient_body import ImpatientBody
from impatient_transport import ImpatientTransport
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3_failure import failure_before_head, failure_within_body

from flowmaestro_transports import Phase, Request, ResponseHead, TransportFailure

_DRIBBLE = "urllib3 bounds each read alone: a server that dribbles may keep a call for hours"
_HANDSHAKE = "urllib3 tells no broken handshake from a lost reply: a POST is not made again"


class Urllib3Transport(ImpatientTransport[PoolManager]):
    """Made of two `urllib3.PoolManager`."""

    falls_short = {
        "a-head-that-dribbles": _DRIBBLE,
        "a-body-that-dribbles": _DRIBBLE,
        **dict.fromkeys(("handshake-timeout", "reset-in-the-handshake"), _HANDSHAKE),
        "a-body-cut-off-under-tls": "http.client takes the end of a connection for one of TLS",
        "a-garbled-length": "http.client, beneath it, reads on until the connection ends",
        "a-garbled-status-line": "http.client takes for a status what int() takes for a number",
        "informational-replies": "urllib3 takes a 103 for the reply: the call fails",
    }

    def begin(self, pool: PoolManager, request: Request, timeout: float) -> ImpatientBody:
        options: Any = {"retries": False, "redirect": False, "preload_content": False}
        limits: Any = {"timeout": Timeout(total=timeout), "pool_timeout": timeout}
        fields = {**request.headers, "accept-encoding": "identity"}
        what: Any = {"headers": fields, "body": request.body or None}
        try:
            reply = pool.urlopen(request.method, request.url, **what, **limits, **options)
        except HTTPError as error:
            raise failure_before_head(error) from error
        connection: Any = getattr(reply.connection, "sock", None)

        def read(patience: float) -> bytes:
            if connection is not None:
                connection.settimeout(patience)
            return reply.read1(65536)  # without a number, it takes a body cut short for whole

        def release() -> None:
            reply.close()
            reply.release_conn()

        if reply.status < 200:
            release()
            raise TransportFailure(Phase.REPLY_BROKEN, f"a {reply.status} came for the reply")
        head = ResponseHead(reply.status, reply.headers.items())
        return ImpatientBody(head, read, failure_within_body, connection, release)

    def close_pool(self, pool: PoolManager) -> None:
        pool.clear()
