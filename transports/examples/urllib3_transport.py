"""urllib3 for sync clients, from its version 2.1 on. Its exceptions tell how far a request came."""

from __future__ import annotations

import socket
from typing import Any

from bodies import ImpatientBody, ImpatientTransport
from urllib3 import PoolManager, Timeout
from urllib3 import exceptions as urllib3_errors

from flowmaestro_transports import Phase, Request, ResponseHead, TransportFailure

_NOT_SENT = (
    urllib3_errors.ConnectTimeoutError,  # NewConnectionError is a subclass.
    urllib3_errors.EmptyPoolError,
    urllib3_errors.LocationValueError,
    urllib3_errors.SSLError,
)
_TIMEOUTS = (
    urllib3_errors.ConnectTimeoutError,
    urllib3_errors.EmptyPoolError,
    urllib3_errors.ReadTimeoutError,
    socket.timeout,
)


class Urllib3Transport(ImpatientTransport[PoolManager]):
    """Made of two `urllib3.PoolManager`."""

    known_failures = {
        "a-failed-handshake": (
            "A broken handshake looks like a lost response, so a POST is not retried."
        ),
        "no-secret-is-reachable-from-a-failure": (
            "A local variable holds the header fields as they are."
        ),
    }

    def begin(self, pool: PoolManager, request: Request, timeout: float) -> ImpatientBody:
        options: Any = {"retries": False, "redirect": False, "preload_content": False}
        limits: Any = {"timeout": Timeout(total=timeout), "pool_timeout": timeout}
        fields = {**request.headers, "accept-encoding": "identity"}
        content: Any = {"headers": fields, "body": request.body or None}
        try:
            response = pool.urlopen(request.method, request.url, **content, **limits, **options)
        except urllib3_errors.HTTPError as error:
            # A ProxyError has the exception that says how far the request came.
            cause = getattr(error, "original_error", error)
            sent = not isinstance(cause, _NOT_SENT)
            raise _failure(Phase.MAYBE_PROCESSED if sent else Phase.NOT_SENT, error) from error
        connection: Any = getattr(response.connection, "sock", None)

        def read(patience: float) -> bytes:
            if connection is not None:
                connection.settimeout(patience)
            # Without a number, read1 does not notice a truncated body.
            return response.read1(65536)

        def failure(error: Exception) -> TransportFailure:
            return _failure(Phase.REPLY_BROKEN, error)

        def release() -> None:
            response.close()
            response.release_conn()

        if response.status < 200:
            release()
            raise TransportFailure(
                Phase.REPLY_BROKEN, f"a {response.status} came for the final response"
            )
        head = ResponseHead(response.status, response.headers.items())
        return ImpatientBody(head, read, failure, connection, release)

    def close_pool(self, pool: PoolManager) -> None:
        pool.clear()


def _failure(phase: Phase, error: Exception) -> TransportFailure:
    # A ProtocolError has the exception of the connection among its arguments.
    late = any(isinstance(cause, _TIMEOUTS) for cause in (error, *error.args))
    if isinstance(error, urllib3_errors.NewConnectionError):
        late = False  # It is a timeout only by inheritance.
    return TransportFailure(phase, str(error), timed_out=late)
