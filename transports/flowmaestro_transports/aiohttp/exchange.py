"""One request on aiohttp, up to the head of its reply: by way of its session, or past it.

A session of the user's is asked as everybody asks it. One of ours has nothing to add, to follow,
to repeat or to remember, and what aiohttp does to find that out is a sixth of a call. So there
the request goes straight to a connection, as `ClientSession` itself would hand it over; with an
aiohttp that has other parts than those known here, it goes by way of the session, too.
"""

from __future__ import annotations

import io
from typing import Any, Dict, List, NamedTuple, Optional, Protocol, Tuple, Union

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from flowmaestro_core.http.messages import Phase, Request, TransportFailure
from flowmaestro_transports.aiohttp.connector import SETTINGS
from flowmaestro_transports.aiohttp.limits import Attempt

Fields = Tuple[Tuple[str, str], ...]

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "User-Agent")
"""What aiohttp would add to any request."""

_LARGE_BODY = 2**20
"""Bytes of a request beyond which aiohttp warns that one write of them blocks the event loop."""


class Route(NamedTuple):
    """What requests to one origin need besides: header fields, and options of aiohttp."""

    fields: Fields
    options: Dict[str, Any]


class Exchange(Protocol):
    """Sends a request on a session, and gives the reply once its head is there.

    Raises what aiohttp does, and `TransportFailure`.
    """

    async def __call__(
        self, session: aiohttp.ClientSession, request: Request, route: Route, attempt: Attempt, /
    ) -> aiohttp.ClientResponse: ...


async def by_session(
    session: aiohttp.ClientSession, request: Request, route: Route, attempt: Attempt, /
) -> aiohttp.ClientResponse:
    """An `Exchange` through all that a session does for its users."""
    try:
        return await session.request(
            request.method,
            URL(request.url, encoded=True),
            data=_sendable(request.body),
            headers=request.headers.pairs + route.fields,
            skip_auto_headers=_unwanted(request),
            allow_redirects=False,
            raise_for_status=False,
            timeout=attempt,
            middlewares=(),
            **SETTINGS,
            **route.options,
        )
    except ValueError as error:
        if "AUTHORIZATION" not in str(error):
            raise
        message = "the session found other credentials for this host in .netrc: trust_env=False"
        raise TransportFailure(Phase.NOT_SENT, message) from error


async def past_session(
    session: aiohttp.ClientSession, request: Request, route: Route, attempt: Attempt, /
) -> aiohttp.ClientResponse:
    """An `Exchange` that needs of a session of ours nothing but its connector."""
    asked = aiohttp.ClientRequest(
        request.method,
        URL(request.url, encoded=True),
        data=_sendable(request.body),
        headers=request.headers.pairs + route.fields,
        skip_auto_headers=_unwanted(request),
        loop=attempt.loop,
        session=session,
        **route.options,
    )
    connector: Any = session.connector
    connection = await connector.connect(asked, [], attempt)
    try:
        connection.protocol.set_response_params(
            skip_payload=request.method == "HEAD", read_until_eof=True, **SETTINGS
        )
        response = await asked.send(connection)
        try:
            await response.start(connection)
        except BaseException:
            response.close()
            raise
    except BaseException:
        connection.close()
        raise
    return response


def own_exchange() -> Exchange:
    """The shorter `Exchange` that this version of aiohttp allows with a session of ours."""
    request: Any = aiohttp.ClientRequest
    connector: Any = aiohttp.TCPConnector
    told = {"data", "headers", "skip_auto_headers", "loop", "session", "proxy", "proxy_headers"}
    heard = {"skip_payload", "read_until_eof", *SETTINGS}
    known = (
        told <= (request.__init__.__kwdefaults__ or {}).keys()
        and heard <= (ResponseHandler.set_response_params.__kwdefaults__ or {}).keys()
        and _takes(getattr(connector, "connect", None), "req", "traces", "timeout")
        and _takes(getattr(request, "send", None), "conn")
        and _takes(getattr(aiohttp.ClientResponse, "start", None), "connection")
    )
    return past_session if known else by_session


def _takes(method: Any, *names: str) -> bool:
    """Whether these are the parameters of a method."""
    code = getattr(method, "__code__", None)
    return code is not None and code.co_varnames[1 : code.co_argcount] == names


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
