"""What an exception of aiohttp says about the attempt: whether anything had been sent."""

from __future__ import annotations

import asyncio
import re

import aiohttp
from aiohttp.http import HttpProcessingError

from flowmaestro_core.http.messages import Phase, TransportClosedError, TransportFailure


class NotConnectedError(aiohttp.ClientConnectionError):
    """No connection came about, be it for a proxy's reply."""


ERRORS = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError)
"""All that aiohttp may raise for a failure of the network."""

_NOT_SENT = (
    NotConnectedError,
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
    aiohttp.ServerTimeoutError,  # no limit but that for connecting is left to aiohttp
)

_AFTER_THE_REASON = re.compile(r":?\s*\n|: (?=<|b?['\"]|bytearray)")
"""Where aiohttp's messages go on to quote the reply, or to show an object."""


def failure_of(error: BaseException, *, connecting: bool, head_came: bool) -> TransportFailure:
    """The failure that an `error` of aiohttp means for the attempt.

    `connecting` says that there was no connection yet, `head_came` that the reply had begun.
    """
    timed_out = isinstance(error, asyncio.TimeoutError)
    if connecting or isinstance(error, _NOT_SENT):
        return TransportFailure(
            Phase.NOT_SENT,
            "not connected in time" if timed_out else reason_of(error),
            timed_out=timed_out,
        )
    if head_came:
        what = "the reply did not end in time" if timed_out else reason_of(error)
        return TransportFailure(Phase.REPLY_BROKEN, what, timed_out=timed_out)
    if timed_out:
        return TransportFailure(Phase.MAYBE_PROCESSED, "no reply in time", timed_out=True)
    if _is_of_the_head(error):
        message = f"the head of the reply is broken: {reason_of(error)}"
        return TransportFailure(Phase.REPLY_BROKEN, message)
    return TransportFailure(
        Phase.MAYBE_PROCESSED, f"the connection was lost before the reply: {reason_of(error)}"
    )


def closed(*, connecting: bool, head_came: bool) -> Exception:
    """What comes of an attempt whose transport is closed meanwhile, told as `failure_of` does."""
    if connecting:
        return TransportClosedError()
    if head_came:
        return TransportFailure(Phase.REPLY_BROKEN, "the reply broke off: closed by this side")
    return TransportFailure(Phase.MAYBE_PROCESSED, "no reply came: closed by this side")


def _is_of_the_head(error: BaseException) -> bool:
    """Whether a part of the head came: garbage, or the beginning of one that was cut off."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return not isinstance(error.message, str)  # but what had come
    return isinstance(error, (aiohttp.ClientResponseError, HttpProcessingError))


def reason_of(error: BaseException) -> str:
    """What happened, in one line, without the URL's query or any header's value."""
    if isinstance(error, aiohttp.InvalidURL):
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
