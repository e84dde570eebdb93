"""Conversion of exceptions of aiohttp to `TransportFailure`. Pure."""

from __future__ import annotations

import asyncio
import re

import aiohttp
from aiohttp.http import HttpProcessingError

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.http11.failures import library_failure

ERRORS = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError, ValueError)
"""The exceptions of aiohttp, and of our decoder, that become a `TransportFailure`."""

_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ServerTimeoutError,  # aiohttp keeps no other limit than the one for connecting.
)

_AFTER_THE_REASON = re.compile(r":?\s*\n|: (?=<|b?['\"]|bytearray)")
"""The end of the reason in a message of aiohttp; a quote of the response or a repr follows."""


class AfterSendError(aiohttp.ClientError):
    """A wrapper of an exception that was raised when the request may have been sent.

    aiohttp does not send the request again after an exception of this class. `head_came` says
    whether the head of the response had come. If so, the wrapped exception is from a trace config
    of the caller.
    """

    def __init__(self, error: BaseException, *, head_came: bool) -> None:
        super().__init__(*error.args)
        self.error = error
        self.head_came = head_came


def failure_of(error: BaseException, *, head_came: bool) -> TransportFailure:
    """Return the failure for one of `ERRORS`.

    `head_came` says whether the head of the response had come. If `error` is an `AfterSendError`,
    its own `head_came` is used instead. The type of the error alone says whether the request may
    have been sent, because a session of the caller's reports nothing else.
    """
    may_be_sent = isinstance(error, AfterSendError)
    if isinstance(error, AfterSendError):
        head_came, error = error.head_came, error.error
    timed_out = isinstance(error, asyncio.TimeoutError)
    if not (head_came or may_be_sent) and _is_not_sent(error):
        phase = Phase.NOT_SENT
    elif head_came or (not timed_out and _is_of_the_head(error)):
        phase = Phase.REPLY_BROKEN
    else:
        phase = Phase.MAYBE_PROCESSED
    untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
    # To repeat credentials that a proxy refuses may lock an account.
    permanent = isinstance(error, aiohttp.ClientHttpProxyError) and error.status == 407
    return library_failure(
        phase,
        error,
        _reason(error),
        timed_out=timed_out,
        untrusted=untrusted,
        permanent=permanent,
    )


def _is_not_sent(error: BaseException) -> bool:
    refused_here = isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError)
    return refused_here or isinstance(error, _NOT_SENT)


def _is_of_the_head(error: BaseException) -> bool:
    """Return whether `error` shows that a part of the head came, malformed or truncated."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)  # Then it is the part that came.
    return isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError))


def _reason(error: BaseException) -> str:
    """Return one line that says what happened, without the query or the headers of the request."""
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return "the URL is not valid"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"no tunnel: {error.status} {error.message}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    if isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError)):
        text = error.message
    else:
        text = str(error)
    return _AFTER_THE_REASON.split(text.strip(), maxsplit=1)[0] or type(error).__name__
