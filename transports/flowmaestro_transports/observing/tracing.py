"""Tracing: what follows one operation of a client.

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
from flowmaestro_core.http.messages import Headers, Request, Response, ResponseHead

AttemptOutcome = Union[Response, ResponseHead, BaseException]


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


def with_added_fields(request: Request, fields: Iterable[Tuple[str, str]]) -> Request:
    """The request with the fields that it does not have yet."""
    kept = tuple(pair for pair in fields if pair[0] not in request.headers)
    if not kept:
        return request
    headers = Headers(request.headers.pairs + kept)
    return Request(request.method, request.url, headers, request.body)
