"""Tracing: what follows one operation of a client, and the transport that its requests go through.

A hook gets each request and its reply. A trace also learns of an attempt that is cancelled,
may set context variables while a request is carried out, and sees what the operation yields.
"""

from __future__ import annotations

from typing import (
    Any,
    Callable,
    Iterable,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Tuple,
    Union,
)

from flowmaestro_core.errors import Attempt
from flowmaestro_core.http.messages import Headers, Request, Response
from flowmaestro_transports.contract import (
    AsyncOpenResponse,
    AsyncTransport,
    OpenResponse,
    Transport,
    wall_clock_of,
)

AttemptOutcome = Union[Response, OpenResponse, AsyncOpenResponse, BaseException]


class AttemptInfo(NamedTuple):
    """A request that goes out now.

    Attributes:
        request: as it is sent, but for what the trace adds.
        route: as in `RequestInfo`.
        ids: those in its path, by the names in `route`.
        execution_id: the execution that it is about, where that is known.
        resent: how often this call was sent before, redirects included.
        shown_url: makes the URL as it may be shown: without credentials, the query masked.

    """

    request: Request
    route: Optional[str]
    ids: Mapping[str, str]
    execution_id: Optional[str]
    resent: int
    shown_url: Callable[[], str]


class Trace(Protocol):
    """Follows one operation from its first request to its end; `Hooks.trace` makes it.

    What a method raises is logged and counted as that of a hook, and changes nothing.
    """

    def attempting(self, info: AttemptInfo) -> Mapping[str, str]:
        """A request goes out now; what is returned is added to its header fields."""
        ...

    def attempted(self, outcome: AttemptOutcome) -> None:
        """It is over, in the same thread or task: a reply, the head of one, or an exception."""
        ...

    def retrying(self, failed: Attempt, seconds: float, reconnects: bool) -> None:
        """A pause of `seconds` begins before a retry, or before a lost stream is reconnected."""
        ...

    def emitted(self, item: Any) -> None:
        """The operation yields an item to its caller or listener."""
        ...

    def ended(self, value: Any, error: Optional[BaseException]) -> None:
        """The operation has returned `value`, failed with `error`, or was closed.

        Of a stream, `value` is the execution, where it was polled. It may be called again, by
        any thread; only the first time counts.
        """
        ...


class Guard(Protocol):
    """A trace whose methods do not raise."""

    def begin_attempt(self, request: Request) -> Request:
        """`Trace.attempting`; returns the request with the added fields."""
        ...

    def end_attempt(self, outcome: AttemptOutcome) -> None:
        """`Trace.attempted`."""
        ...


def with_added_fields(request: Request, fields: Iterable[Tuple[str, str]]) -> Request:
    """The request with the fields that it does not have yet."""
    kept = tuple(pair for pair in fields if pair[0] not in request.headers)
    if not kept:
        return request
    headers = Headers(request.headers.pairs + kept)
    return Request(request.method, request.url, headers, request.body)


class SyncTracedTransport:
    """A transport whose attempts a trace follows."""

    def __init__(self, transport: Transport, guard: Guard) -> None:
        self.now = transport.now
        self.sleep = transport.sleep
        self.wall_clock = wall_clock_of(transport)
        self._transport = transport
        self._guard = guard

    def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`."""
        request = self._guard.begin_attempt(request)
        try:
            response = self._transport.send(request, timeout)
        except BaseException as error:
            self._guard.end_attempt(error)
            raise
        self._guard.end_attempt(response)
        return response

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `Transport.open`."""
        request = self._guard.begin_attempt(request)
        try:
            response = self._transport.open(request, timeout)
        except BaseException as error:
            self._guard.end_attempt(error)
            raise
        self._guard.end_attempt(response)
        return response

    def close(self) -> None:
        """As `Transport.close`."""
        self._transport.close()


class AsyncTracedTransport:
    """As `SyncTracedTransport`."""

    def __init__(self, transport: AsyncTransport, guard: Guard) -> None:
        self.now = transport.now
        self.sleep = transport.sleep
        self.wall_clock = wall_clock_of(transport)
        self._transport = transport
        self._guard = guard

    async def send(self, request: Request, timeout: float) -> Response:
        """As `AsyncTransport.send`."""
        request = self._guard.begin_attempt(request)
        try:
            response = await self._transport.send(request, timeout)
        except BaseException as error:
            self._guard.end_attempt(error)
            raise
        self._guard.end_attempt(response)
        return response

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `AsyncTransport.open`."""
        request = self._guard.begin_attempt(request)
        try:
            response = await self._transport.open(request, timeout)
        except BaseException as error:
            self._guard.end_attempt(error)
            raise
        self._guard.end_attempt(response)
        return response

    async def close(self) -> None:
        """As `AsyncTransport.close`."""
        await self._transport.close()
