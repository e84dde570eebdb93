"""Turns exceptions of the library `requests` into instances of `TransportFailure`. Pure."""

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
    # An invalid URL, a content coding that cannot be decoded, and a hook of the caller's.
    ValueError,
)
"""The exceptions of a session, or of the body of a response, that become a `TransportFailure`."""

# `ProxyError` is missing: urllib3 also raises it for failures long after a proxy was reached.
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

_NO_TUNNEL = "Tunnel connection failed"
"""The beginning of the `OSError` message of http.client when a proxy refuses a tunnel."""


def failure_before_head(error: BaseException) -> TransportFailure:
    """Return the failure for an `error` that was raised before the head of the response came.

    Its phase is *not sent* if that is certain, *reply broken* for a malformed head, and otherwise
    *maybe processed*.
    """
    causes = list(_causes(error))
    if any(isinstance(cause, _NOT_SENT) or _is_refused_tunnel(cause) for cause in causes):
        phase = Phase.NOT_SENT
    else:
        malformed = any(map(_is_malformed_head, causes))
        phase = Phase.REPLY_BROKEN if malformed else Phase.MAYBE_PROCESSED
    return library_failure(
        phase,
        error,
        _reason(causes[-1]) + (" (by the proxy)" if any(map(_is_of_proxy, causes)) else ""),
        timed_out=any(map(_is_timeout, causes)),
        untrusted=any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes),
        # The proxy refuses the credentials; to repeat them may lock an account.
        permanent=any(_is_refused_tunnel(cause) and " 407 " in str(cause) for cause in causes),
    )


def failure_within_body(error: BaseException) -> TransportFailure:
    """Return the failure for an `error` that was raised after the head of the response came.

    Its phase is *reply broken*. It has the text of a `ValueError`, which may quote the response;
    the core redacts the keys in it.
    """
    causes = list(_causes(error))
    reason = str(error) if isinstance(error, ValueError) else _reason(causes[-1])
    timed_out = any(map(_is_timeout, causes))
    return library_failure(Phase.REPLY_BROKEN, error, reason, timed_out=timed_out)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and the exceptions that the libraries wrapped in it, the innermost last.

    Each is the `reason`, one of the `args` or the `__cause__` of one before it. If one has several,
    the last that is found counts as the innermost.

    `__context__` is not followed: it leads to the exception that the caller was handling.
    """
    seen: List[BaseException] = []
    waiting: List[object] = [error]
    while waiting:
        cause = waiting.pop(0)
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            yield cause
            waiting += [getattr(cause, "reason", None), *cause.args, cause.__cause__]


def _is_timeout(cause: BaseException) -> bool:
    if isinstance(cause, urllib3_errors.NewConnectionError):  # It inherits from a timeout.
        return False
    return isinstance(cause, (socket.timeout, requests.Timeout, urllib3_errors.TimeoutError))


def _is_of_proxy(cause: BaseException) -> bool:
    return isinstance(cause, (requests.exceptions.ProxyError, urllib3_errors.ProxyError))


def _is_refused_tunnel(cause: BaseException) -> bool:
    return isinstance(cause, OSError) and str(cause).startswith(_NO_TUNNEL)


def _is_malformed_head(cause: BaseException) -> bool:
    # A BadStatusLine of no bytes: the connection was closed.
    if isinstance(cause, http.client.RemoteDisconnected):
        return False
    return isinstance(cause, (http.client.HTTPException, urllib3_errors.InvalidHeader))


def _reason(cause: BaseException) -> str:
    """Return what happened as a text.

    It quotes a proxy that refuses a tunnel, but nothing of the server's response, and of the
    request at most the host.
    """
    if isinstance(cause, ssl.SSLError) or _is_refused_tunnel(cause):
        return str(cause)
    if type(cause) is requests.ConnectionError and cause.args and isinstance(cause.args[0], str):
        # Raised by a tool in the place of the network: `responses` says that no mock matches.
        return cause.args[0].partition("\n")[0]
    return (isinstance(cause, OSError) and cause.strerror) or type(cause).__name__
