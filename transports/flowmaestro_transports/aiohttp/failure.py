"""What an exception of aiohttp says about the attempt: whether anything had been sent."""

from __future__ import annotations

import asyncio
import re

import aiohttp
from aiohttp.http import HttpProcessingError

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.http11.failures import library_failure

ERRORS = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError, ValueError)
"""All that aiohttp may raise for a failure of the network."""

_NOT_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
    aiohttp.ServerTimeoutError,  # no limit but that for connecting is left to aiohttp
)

_AFTER_THE_REASON = re.compile(r":?\s*\n|: (?=<|b?['\"]|bytearray)")
"""Where aiohttp's messages go on to quote the reply, or to show an object."""


class LeftError(aiohttp.ClientError):
    """What was raised after the request had begun to leave, so that aiohttp does not repeat it.

    `head_came`: after the head of the reply, too, by a trace config of the caller's.
    """

    def __init__(self, error: BaseException, *, head_came: bool) -> None:
        super().__init__(*error.args)
        self.error = error
        self.head_came = head_came


def failure_of(error: BaseException, *, head_came: bool) -> TransportFailure:
    """The failure that an `error` means. `head_came` says whether the reply had begun."""
    left = isinstance(error, LeftError)
    if isinstance(error, LeftError):
        head_came, error = error.head_came, error.error
    timed_out = isinstance(error, asyncio.TimeoutError)
    if not (head_came or left) and _is_not_sent(error):
        phase = Phase.NOT_SENT
    elif head_came or (not timed_out and _is_of_the_head(error)):
        phase = Phase.REPLY_BROKEN
    else:
        phase = Phase.MAYBE_PROCESSED
    untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
    reason = _reason(error)
    return library_failure(phase, error, reason, timed_out=timed_out, untrusted=untrusted)


def _is_not_sent(error: BaseException) -> bool:
    refused_here = isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError)
    return refused_here or isinstance(error, _NOT_SENT)


def _is_of_the_head(error: BaseException) -> bool:
    """Whether a part of the head came: garbage, or the beginning of one that was cut off."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)  # but what had come
    return isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError))


def _reason(error: BaseException) -> str:
    """What happened, in one line, without the URL's query or any header's value."""
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
