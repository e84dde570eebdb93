"""A plain function from request to response, made into a transport.

Its reply comes whole, so a body that is read piece by piece comes in one piece.
"""

from __future__ import annotations

import inspect
import time
from typing import Any, List, Optional, Union, cast

from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.contract import (
    AsyncFunction,
    AsyncTransport,
    SyncFunction,
    Transport,
)
from flowmaestro_transports.driving.fork_guard import NotPicklable


def as_transport(given: Union[Transport, SyncFunction]) -> Transport:
    """`given` if it is a sync transport, or the transport around it if it is a function.

    Raises `TypeError` for anything else.
    """
    _refuse_class(given)
    lacking = _lacking(given)
    if not lacking and not inspect.iscoroutinefunction(cast("Transport", given).send):
        return cast("Transport", given)
    if _is_function(given) and not _is_coroutine_function(given):
        return FunctionTransport(cast("SyncFunction", given))
    raise TypeError(
        "transport must be a Transport or a function from Request to Response, "
        f"neither with coroutines, not {given!r}{_why(lacking)}"
    )


def as_async_transport(given: Union[AsyncTransport, AsyncFunction]) -> AsyncTransport:
    """`given` if it is an async transport, or the transport around it if it is a function.

    Raises `TypeError` for anything else.
    """
    _refuse_class(given)
    lacking = _lacking(given)
    if not lacking and inspect.iscoroutinefunction(cast("AsyncTransport", given).send):
        return cast("AsyncTransport", given)
    if _is_function(given):
        return AsyncFunctionTransport(cast("AsyncFunction", given))
    raise TypeError(
        "transport must be an AsyncTransport, with coroutines, or a function from Request to "
        f"Response, not {given!r}{_why(lacking)}"
    )


def _refuse_class(given: Any) -> None:
    if isinstance(given, type):
        raise TypeError(f"transport must be an instance: {given.__name__}(), not {given.__name__}")


def _lacking(given: Any) -> List[str]:
    """The methods of a transport that this has not; one that passes all on has them."""
    methods = ("send", "open", "sleep", "now", "close")
    return [name for name in methods if not callable(getattr(given, name, None))]


def _why(lacking: List[str]) -> str:
    return "" if not lacking or "send" in lacking else f", which lacks {', '.join(lacking)}"


def _is_function(given: Any) -> bool:
    return callable(given) and not hasattr(given, "send")


def _is_coroutine_function(given: Any) -> bool:
    return inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(
        getattr(given, "__call__", None)  # noqa: B004 - the method itself is wanted
    )


def _checked(response: Any) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"the transport's function must return a Response, not {response!r}")
    return response


def _failure(error: Exception) -> Optional[TransportFailure]:
    """The failure that an error of the function means, if it is of the operating system's kind.

    Most HTTP libraries derive theirs from `OSError`, requests among them. Nobody knows how far
    the request had come.
    """
    import asyncio
    import socket

    # From Python 3.11 on, all three are the same.
    if isinstance(error, (TimeoutError, socket.timeout, asyncio.TimeoutError)):
        return TransportFailure(Phase.MAYBE_PROCESSED, "no reply in time", timed_out=True)
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return TransportFailure(Phase.MAYBE_PROCESSED, f"the function failed: {reason}")
    return None


class _WholeBody:
    """The open body of a reply that is all there."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._rest = response.body

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Headers:
        return self._response.headers

    def take(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest


class _SyncBody(_WholeBody):
    def read(self, patience: float) -> Optional[bytes]:
        return self.take()

    def close(self) -> None:
        self.take()


class _AsyncBody(_WholeBody):
    async def read(self, patience: float) -> Optional[bytes]:
        return self.take()

    async def close(self) -> None:
        self.take()


class FunctionTransport(NotPicklable):
    """A `Transport` that asks a function; time limits are the function's own affair.

    An `OSError` of the function, and a `TimeoutError` of whatever kind, is a failure of the
    network (*maybe processed*); a `TransportFailure` says for itself what it is. Any other
    exception reaches the caller as it is.
    """

    patient = False
    """A reply comes whole, or not at all: no part of it can be waited for."""

    def __init__(self, function: SyncFunction) -> None:
        self._function = function
        self._closed = False

    def send(self, request: Request, timeout: float) -> Response:
        """What the function returns."""
        if self._closed:
            raise TransportClosedError
        try:
            return _checked(self._function(request))
        except Exception as error:
            failure = _failure(error)
            if failure is None:
                raise
            raise failure from error

    def open(self, request: Request, timeout: float) -> _SyncBody:
        """What the function returns, its body still to be read."""
        return _SyncBody(self.send(request, timeout))

    def sleep(self, seconds: float) -> None:
        """Really sleep."""
        time.sleep(seconds)

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def close(self) -> None:
        """Ask the function no more."""
        self._closed = True


class AsyncFunctionTransport(NotPicklable):
    """An `AsyncTransport` that asks a function, coroutine or plain, on asyncio or trio.

    Its exceptions count as those of `FunctionTransport`'s function.
    """

    patient = False
    """As that of `FunctionTransport`."""

    def __init__(self, function: AsyncFunction) -> None:
        self._function = function
        self._closed = False

    async def send(self, request: Request, timeout: float) -> Response:
        """What the function returns."""
        if self._closed:
            raise TransportClosedError
        try:
            response = self._function(request)
            return _checked(await response if inspect.isawaitable(response) else response)
        except Exception as error:
            failure = _failure(error)
            if failure is None:
                raise
            raise failure from error

    async def open(self, request: Request, timeout: float) -> _AsyncBody:
        """What the function returns, its body still to be read."""
        return _AsyncBody(await self.send(request, timeout))

    async def sleep(self, seconds: float) -> None:
        """Sleep in the running event loop."""
        import anyio

        await anyio.sleep(seconds)

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    async def close(self) -> None:
        """Ask the function no more."""
        self._closed = True
