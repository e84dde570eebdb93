"""urllib3 for sync clients, from its version 2.1 on."""

from __future__ import annotations

from typing import Any

from impatient_body import ImpatientBody
from impatient_transport import ImpatientTransport
from shortfalls import URLLIB3
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3_failure import failure_before_head, failure_within_body

from flowmaestro_transports import Phase, Request, ResponseHead, TransportFailure


class Urllib3Transport(ImpatientTransport[PoolManager]):
    """Made of two `urllib3.PoolManager`."""

    known_failures = URLLIB3

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
