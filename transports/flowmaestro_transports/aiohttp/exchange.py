"""One request through the front door of aiohttp, `ClientSession.request`, and its time limits.

The session's connector, proxy and trace configs have their part in it. What the session or its
environment would add to the header is taken out again just before the request leaves.
"""

from __future__ import annotations

import asyncio
import io
import math
import sys
from functools import partial
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, AsyncContextManager, List, Mapping, Optional, Set

import aiohttp
from yarl import URL

from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.aiohttp.failure import ERRORS, LeftError
from flowmaestro_transports.http11.proxies import basic, secrets_in

if sys.version_info >= (3, 11):
    from asyncio import timeout_at
elif TYPE_CHECKING:

    def timeout_at(when: Optional[float]) -> AsyncContextManager[Any]: ...  # noqa: D103

else:
    from async_timeout import timeout_at  # a dependency of aiohttp's own there

__all__ = ["Limits", "head_of", "timeout_at"]

_LONGEST_LINE = 64 * 1024
"""Bytes that one line in the head of a reply may have."""

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "User-Agent")
"""What aiohttp would add to any request."""

_LARGE_BODY = 2**20
"""Bytes of a request beyond which aiohttp warns that one write of them blocks the event loop."""

_MARGIN = 1.0
"""Seconds by which connecting must end before the attempt as a whole: if both limits ran out
together, had the request left?"""


async def head_of(
    session: aiohttp.ClientSession, request: Request, limits: Limits, secrets: Set[str]
) -> aiohttp.ClientResponse:
    """Send a request, and give the reply once its head is there. Raises what aiohttp does.

    `secrets` gets what is sent to a proxy and nobody is to see.
    """
    given, body = request.headers, request.body
    came: List[aiohttp.ClientResponse] = []
    try:
        return await session.request(
            request.method,
            URL(request.url, encoded=True),
            data=io.BytesIO(body) if len(body) > _LARGE_BODY else body or None,
            # beside this one, aiohttp would refuse the credentials that the session has
            headers=[pair for pair in given.pairs if pair[0].lower() != "authorization"],
            skip_auto_headers=_unwanted(request),
            allow_redirects=False,
            raise_for_status=False,
            timeout=limits.for_aiohttp,
            middlewares=(partial(_as_given, given, session.headers, came, secrets),),
            auto_decompress=False,  # ours is bounded
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
        )
    except BaseException as error:
        for response in came:
            response.close()
        if not came or not isinstance(error, ERRORS):
            raise
        raise LeftError(error, head_came=True) from error


async def _as_given(
    given: Headers,
    of_the_session: Mapping[str, str],
    came: List[aiohttp.ClientResponse],
    secrets: Set[str],
    request: aiohttp.ClientRequest,
    handler: aiohttp.ClientHandlerType,
) -> aiohttp.ClientResponse:
    """A middleware: the header that was given, and nothing is sent twice."""
    fields = request.headers
    for name in ("Authorization", "Cookie", *of_the_session):
        if name not in given:
            fields.popall(name, None)
    if "authorization" in given:
        fields["Authorization"] = given["authorization"]
    if "cookie" in given:
        fields["Cookie"] = given["cookie"]
    if request.proxy is not None:
        auth: Any = request.proxy_auth  # a named tuple, whose parts have no types
        user, password = auth[:2] if auth else (request.proxy.user, request.proxy.password)
        if user or password:
            secrets.update(secrets_in(basic(user or "", password or "")))
    try:
        response = await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, ValueError) as error:
        if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.InvalidURL)):
            raise
        # upon the original, aiohttp repeats a GET or a DELETE
        raise LeftError(error, head_came=False) from error
    came.append(response)
    if "Set-Cookie" in response.headers:
        response.cookies = SimpleCookie()  # else the session would keep them
    return response


def _unwanted(request: Request) -> Optional[List[str]]:
    """The headers that aiohttp would add to what the core wants sent."""
    given = request.headers
    names = [name for name in _AUTO_HEADERS if name not in given]
    if (request.method != "GET" or request.body) and "Content-Type" not in given:
        names.append("Content-Type")  # to a POST even if it has no body
    return names or None


class Limits:
    """When the phases of an attempt end that begins now, by the clock of the running event loop.

    aiohttp keeps the limit for connecting (`for_aiohttp`). That for the head is counted from when
    the one for connecting would run out, since aiohttp does not tell when it connects.
    """

    def __init__(self, timeout: float) -> None:
        self._clock = asyncio.get_running_loop().time
        began = self._clock()
        self.end = began + timeout
        self.head: Optional[float] = None
        self._read: Optional[float] = None
        connect = max(timeout - _MARGIN, timeout * 3 / 4)
        if isinstance(timeout, Timeout):
            connect = min(timeout.connect or connect, connect)
            self._read = timeout.read
            if timeout.head is not None:
                self.head = began + (timeout.connect or 0) + timeout.head
        self.for_aiohttp = aiohttp.ClientTimeout(connect=connect, ceil_threshold=math.inf)

    @property
    def piece(self) -> Optional[float]:
        """Until when the next piece of the body has to come."""
        return None if self._read is None else self._clock() + self._read
