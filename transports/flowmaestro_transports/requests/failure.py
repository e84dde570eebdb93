"""What an exception of requests says about the attempt: whether anything had been sent."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Iterator, List

import requests
import urllib3.exceptions as urllib3_errors

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.http11.failures import library_failure

ERRORS = (
    requests.RequestException,
    urllib3_errors.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,  # a URL that is none, whatever content coding cannot be undone, and a caller's hook
)
"""All that a session, or the body of a reply, may raise for a failure of the network."""

_NOT_SENT = (
    requests.ConnectTimeout,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    ssl.SSLCertVerificationError,
    urllib3_errors.ClosedPoolError,
    urllib3_errors.ConnectTimeoutError,
    urllib3_errors.LocationValueError,
    urllib3_errors.NewConnectionError,
)
"""No `ProxyError`: urllib3 calls so, too, what goes wrong long after a proxy was reached."""

_NO_TUNNEL = "Tunnel connection failed"
"""How the message of http.client's plain `OSError` begins when a proxy refuses one."""


def failure_before_head(error: BaseException) -> TransportFailure:
    """The failure for an `error` that came in place of the head of a reply.

    What is not known to have happened before the request was sent is *maybe processed*.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, _NOT_SENT) or _is_no_tunnel(cause) for cause in causes):
        phase = Phase.NOT_SENT
    else:
        garbage = any(map(_is_garbage, causes))
        phase = Phase.REPLY_BROKEN if garbage else Phase.MAYBE_PROCESSED
    return library_failure(
        phase,
        error,
        _reason(causes[-1]) + (" (by the proxy)" if any(map(_is_of_proxy, causes)) else ""),
        timed_out=any(map(_is_time_limit, causes)),
        untrusted=any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes),
    )


def failure_within_body(error: BaseException) -> TransportFailure:
    """The failure for an `error` that came in place of a piece of the body."""
    causes = list(_causes(error))
    reason = str(error) if isinstance(error, ValueError) else _reason(causes[-1])
    timed_out = any(map(_is_time_limit, causes))
    return library_failure(Phase.REPLY_BROKEN, error, reason, timed_out=timed_out)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """`error` and what the libraries have wrapped in it, the innermost last.

    Never by way of `__context__`: that leads to whatever the caller was handling.
    """
    seen: List[BaseException] = []
    waiting: List[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            yield cause
            waiting += [getattr(cause, "reason", None), *cause.args, cause.__cause__]


def _is_time_limit(cause: BaseException) -> bool:
    if isinstance(cause, urllib3_errors.NewConnectionError):  # by inheritance a timeout, too
        return False
    return isinstance(cause, (socket.timeout, requests.Timeout, urllib3_errors.TimeoutError))


def _is_of_proxy(cause: BaseException) -> bool:
    return isinstance(cause, (requests.exceptions.ProxyError, urllib3_errors.ProxyError))


def _is_no_tunnel(cause: BaseException) -> bool:
    return isinstance(cause, OSError) and str(cause).startswith(_NO_TUNNEL)


def _is_garbage(cause: BaseException) -> bool:
    if isinstance(cause, http.client.RemoteDisconnected):  # a BadStatusLine of no bytes
        return False
    return isinstance(cause, (http.client.HTTPException, urllib3_errors.InvalidHeader))


def _reason(cause: BaseException) -> str:
    """What happened, without anything that an exception may quote of the request or the reply."""
    if isinstance(cause, ssl.SSLError) or _is_no_tunnel(cause):
        return str(cause)
    return (isinstance(cause, OSError) and cause.strerror) or type(cause).__name__
