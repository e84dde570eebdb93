"""What an exception of aiohttp says about the attempt: whether anything had been sent."""

from __future__ import annotations

import asyncio
import re

import aiohttp
from aiohttp.http import HttpProcessingError

from flowmaestro_core.http.messages import Phase, TransportFailure
from flowmaestro_transports.sessions import caused

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


class LostError(aiohttp.ClientConnectionError):
    """A request was lost while it left, and aiohttp shall not repeat it on another connection."""

    def __init__(self, lost: Exception) -> None:
        super().__init__(*lost.args)
        self.lost = lost


class AfterHeadError(aiohttp.ClientError):
    """What was raised after the head of the reply had come, by a trace config of the caller's."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(*raised.args)
        self.raised = raised


def failure_of(error: BaseException, *, head_came: bool) -> TransportFailure:
    """The failure that an `error` means. `head_came` says whether the reply had begun."""
    leaving = isinstance(error, LostError)
    if isinstance(error, LostError):
        error = error.lost
    elif isinstance(error, AfterHeadError):
        error, head_came = error.raised, True
    reason = reason_of(error)
    timed_out = isinstance(error, asyncio.TimeoutError)
    if head_came:
        phase, late, what = Phase.REPLY_BROKEN, "the reply did not end in time", reason
    elif not leaving and _is_not_sent(error):
        phase, late, what = Phase.NOT_SENT, "not connected in time", reason
    elif not timed_out and _is_of_the_head(error):
        phase, late, what = Phase.REPLY_BROKEN, "", f"the head of the reply is broken: {reason}"
    else:
        phase, late = Phase.MAYBE_PROCESSED, "no reply in time"
        what = f"the connection was lost before the reply: {reason}"
    message = late if timed_out else what
    untrusted = isinstance(error, aiohttp.ClientConnectorCertificateError)
    failure = TransportFailure(phase, message, timed_out=timed_out, permanent=untrusted)
    return caused(failure, error, reason)


def _is_not_sent(error: BaseException) -> bool:
    refused_here = isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError)
    return refused_here or isinstance(error, _NOT_SENT)


def _is_of_the_head(error: BaseException) -> bool:
    """Whether a part of the head came: garbage, or the beginning of one that was cut off."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)  # but what had come
    return isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError))


def reason_of(error: BaseException) -> str:
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
    reason = _AFTER_THE_REASON.split(text.strip(), maxsplit=1)[0] or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason += " (verify= says whom to trust)"
    return reason
