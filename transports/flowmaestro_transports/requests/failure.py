"""What an exception of requests says about the attempt: whether anything had been sent."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Any, Iterator, List, Optional

import requests
import urllib3.exceptions as urllib3_errors

from flowmaestro_core.http.messages import Phase, TransportFailure


class NotConnectedError(urllib3_errors.NewConnectionError):
    """No connection came about; `proxy` is the URL of the proxy on the way, if there is one."""

    def __init__(self, connection: Any, reason: str, proxy: Optional[str]) -> None:
        super().__init__(connection, reason)
        self.proxy = proxy


ERRORS = (
    requests.RequestException,
    urllib3_errors.HTTPError,
    http.client.HTTPException,
    OSError,
)
"""All that an adapter may raise for a failure of the network."""

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
    timed_out = any(map(_is_time_limit, causes))
    if any(isinstance(cause, _NOT_SENT) or _is_no_tunnel(cause) for cause in causes):
        proxies = [cause.proxy for cause in causes if isinstance(cause, NotConnectedError)]
        by = f", by proxy {proxies[0]}" if proxies and proxies[0] else ""
        phase, what = Phase.NOT_SENT, f"cannot connect{by}"
    elif any(map(_is_garbage, causes)):
        phase, what = Phase.REPLY_BROKEN, "the head of the reply is broken"
    else:
        phase, what = Phase.MAYBE_PROCESSED, "the connection was lost before the reply"
    if timed_out:
        what = "not connected in time" if phase is Phase.NOT_SENT else "no reply in time"
        return TransportFailure(phase, what, timed_out=True)
    return TransportFailure(phase, f"{what}: {_reason(causes[-1])}")


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


def _is_no_tunnel(cause: BaseException) -> bool:
    return isinstance(cause, OSError) and str(cause).startswith(_NO_TUNNEL)


def _is_garbage(cause: BaseException) -> bool:
    if isinstance(cause, http.client.RemoteDisconnected):  # a BadStatusLine of no bytes
        return False
    return isinstance(cause, (http.client.HTTPException, urllib3_errors.InvalidHeader))


def _reason(cause: BaseException) -> str:
    if isinstance(cause, ssl.SSLError):
        return str(cause)
    return (isinstance(cause, OSError) and cause.strerror) or str(cause) or type(cause).__name__
