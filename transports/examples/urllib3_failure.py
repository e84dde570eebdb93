"""What an error of urllib3 says of an attempt: whether anything had been sent."""

from __future__ import annotations

import socket

from urllib3 import exceptions as urllib3_errors

from flowmaestro_transports import Phase, TransportFailure

_NOT_SENT = (
    urllib3_errors.ConnectTimeoutError,  # and NewConnectionError
    urllib3_errors.EmptyPoolError,
    urllib3_errors.LocationValueError,
    urllib3_errors.SSLError,
)
_LATE = (
    urllib3_errors.ConnectTimeoutError,
    urllib3_errors.EmptyPoolError,
    urllib3_errors.ReadTimeoutError,
    socket.timeout,
)


def failure_before_head(error: Exception) -> TransportFailure:
    """The failure for an `error` that came in place of the head of a reply."""
    cause = getattr(error, "original_error", error)  # a ProxyError tells nothing by itself
    sent = not isinstance(cause, _NOT_SENT)
    return _failure(Phase.MAYBE_PROCESSED if sent else Phase.NOT_SENT, error)


def failure_within_body(error: Exception) -> TransportFailure:
    """The failure for an `error` that came in place of a piece of the body."""
    return _failure(Phase.REPLY_BROKEN, error)


def _failure(phase: Phase, error: Exception) -> TransportFailure:
    causes = (error, *error.args)  # a ProtocolError holds what it was
    late = any(isinstance(cause, _LATE) for cause in causes)
    if isinstance(error, urllib3_errors.NewConnectionError):  # by inheritance a timeout, too
        late = False
    return TransportFailure(phase, str(error), timed_out=late)
