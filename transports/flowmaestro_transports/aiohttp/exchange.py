"""One request through the front door of aiohttp, `ClientSession.request`.

The session's connector, proxy and trace configs have their part in it. What the session or its
environment would add to the header is taken out again just before the request leaves.
"""

from __future__ import annotations

import io
from functools import partial
from http.cookies import SimpleCookie
from typing import Any, List, Mapping, Optional, Set, Union

import aiohttp
from yarl import URL

from flowmaestro_core.http.messages import Headers, Request
from flowmaestro_transports.aiohttp.failure import ERRORS, AfterHeadError, LostError
from flowmaestro_transports.aiohttp.limits import Limits
from flowmaestro_transports.http11.proxies import basic, secrets_in

_LONGEST_LINE = 64 * 1024
"""Bytes that one line in the head of a reply may have."""

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "User-Agent")
"""What aiohttp would add to any request."""

_LARGE_BODY = 2**20
"""Bytes of a request beyond which aiohttp warns that one write of them blocks the event loop."""


async def head_of(
    session: aiohttp.ClientSession, request: Request, limits: Limits, secrets: Set[str]
) -> aiohttp.ClientResponse:
    """Send a request, and give the reply once its head is there. Raises what aiohttp does.

    `secrets` gets what is sent to a proxy and nobody is to see.
    """
    given = request.headers
    came: List[aiohttp.ClientResponse] = []
    try:
        return await session.request(
            request.method,
            URL(request.url, encoded=True),
            data=_sendable(request.body),
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
        raise AfterHeadError(error) from error


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
        raise LostError(error) from error  # upon the original, aiohttp repeats a GET or a DELETE
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


def _sendable(body: bytes) -> Union[bytes, io.BytesIO, None]:
    """The body of a request, so that aiohttp writes a large one piece by piece."""
    return io.BytesIO(body) if len(body) > _LARGE_BODY else body or None
