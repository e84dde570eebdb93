"""Transports that call a function: it gets the request, and returns the response.

The function returns a whole response, so an open body has at most one piece.
"""

from __future__ import annotations

import inspect
import time
from typing import Any, Callable, List, Optional, Union, cast

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
from flowmaestro_transports.primitives.checks import is_coroutine_function
from flowmaestro_transports.primitives.fork_guard import NotPicklable


def as_transport(given: Union[Transport, SyncFunction]) -> Transport:
    """Return `given` if it is a sync transport, or a transport that calls the function `given`.

    Raises `TypeError` for anything else, including a coroutine function.
    """
    if _is_transport(given, awaits=False):
        return cast("Transport", given)
    if _is_function(given) and not is_coroutine_function(given):
        return FunctionTransport(cast("SyncFunction", given))
    raise TypeError(
        "transport must be a Transport or a function from Request to Response, "
        f"neither with coroutines, not {given!r}{_why(given, wants_sync=True)}"
    )


def as_async_transport(given: Union[AsyncTransport, AsyncFunction]) -> AsyncTransport:
    """Return `given` if it is an async transport, or a transport that calls the function `given`.

    The function may be a coroutine function or a plain one. Raises `TypeError` for anything else.
    """
    if _is_transport(given, awaits=True):
        return cast("AsyncTransport", given)
    if _is_function(given):
        return AsyncFunctionTransport(cast("AsyncFunction", given))
    raise TypeError(
        "transport must be an AsyncTransport, with coroutines, or a function from Request to "
        f"Response, not {given!r}{_why(given, wants_sync=False)}"
    )


def _is_transport(given: Any, *, awaits: bool) -> bool:
    if isinstance(given, type):
        raise TypeError(f"transport must be an instance: {given.__name__}(), not {given.__name__}")
    return not _lacking(given) and inspect.iscoroutinefunction(given.send) is awaits


def _is_function(given: Any) -> bool:
    return callable(given) and not hasattr(given, "send")


def _lacking(given: Any) -> List[str]:
    """Return the names of the methods of a transport that `given` lacks."""
    methods = ("send", "open", "sleep", "now", "close")
    return [name for name in methods if not callable(getattr(given, name, None))]


_ADAPTERS = {
    "requests.Session": "RequestsTransport",
    "aiohttp.ClientSession": "AiohttpTransport",
}
_HTTPX = ("httpx.Client", "httpx.AsyncClient", "httpx2.Client", "httpx2.AsyncClient")
"""Clients of httpx, for which `transports/examples` has the adapter."""
"""The transport to make from a session of an HTTP library."""


def _why(given: Any, *, wants_sync: bool) -> str:
    """Return the end of the error message for `given`, which is not a transport.

    The text says what to pass instead of a session of requests, aiohttp or httpx, which client a
    transport of the other kind is for, or which methods an object with `send` lacks. Otherwise it
    is `""`.
    """
    for kind in type(given).__mro__:
        name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        if name in _ADAPTERS:
            return f"; pass {_ADAPTERS[name]}(session), from flowmaestro_transports"
        if name in _HTTPX:
            return "; transports/README.md (Worked examples) has the adapter for httpx"
    if not _lacking(given):
        other = "AsyncFlowMaestroClient" if wants_sync else "FlowMaestroClient"
        return f"; it is for {other}: see docs/choosing-a-transport.md"
    lacking = _lacking(given)
    return "" if not lacking or "send" in lacking else f", which lacks {', '.join(lacking)}"


def _checked(response: Any) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"the transport's function must return a Response, not {response!r}")
    return response


def _failure(error: Exception) -> TransportFailure:
    """Return the failure for an error of the network. Raise any other `error` again.

    Most HTTP libraries, such as requests, derive their errors from `OSError`. These errors do not
    tell whether the request was sent, so the failure is *maybe processed*.
    """
    import asyncio
    import socket

    # From Python 3.11 on, all three are the same.
    if isinstance(error, (TimeoutError, socket.timeout, asyncio.TimeoutError)):
        return TransportFailure(
            Phase.MAYBE_PROCESSED, "no response was received in time", timed_out=True
        )
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return TransportFailure(Phase.MAYBE_PROCESSED, f"the function failed: {reason}")
    raise error


class _WholeBody:
    """An open body whose bytes are all in memory: the body of a function's response."""

    def __init__(self, response: Response) -> None:
        self.status: int = response.status
        self.headers: Headers = response.headers
        self._rest = response.body

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


class _OnFunction(NotPicklable):
    """Base of the sync and the async transport that call a user's function."""

    patient = False
    """A response is read to its end before it is returned, so no read can be continued."""

    def __init__(self, function: Callable[[Request], Any]) -> None:
        self._function = function
        self._closed = False

    def now(self) -> float:
        """Return the time of the monotonic clock in seconds."""
        return time.monotonic()


class FunctionTransport(_OnFunction):
    """A `Transport` that calls a function, which sets its own time limits.

    An `OSError` or `asyncio.TimeoutError` of the function counts as a failure of the network
    (*maybe processed*). A `TransportFailure` keeps its phase. `send` and `open` raise any other
    exception of the function unchanged.
    """

    def send(self, request: Request, timeout: float) -> Response:
        """Call the function and return its response. `timeout` is ignored."""
        if self._closed:
            raise TransportClosedError
        try:
            return _checked(self._function(request))
        except Exception as error:
            raise _failure(error) from error

    def open(self, request: Request, timeout: float) -> _SyncBody:
        """Call the function and return its response with an open body. `timeout` is ignored."""
        return _SyncBody(self.send(request, timeout))

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`. `close` does not end the pause."""
        time.sleep(seconds)

    def close(self) -> None:
        """Make a later `send` or `open` raise `TransportClosedError`."""
        self._closed = True


class AsyncFunctionTransport(_OnFunction):
    """An `AsyncTransport` that calls a function, coroutine or plain, on asyncio or trio.

    The function sets its own time limits.

    An `OSError` or `asyncio.TimeoutError` of the function counts as a failure of the network
    (*maybe processed*). A `TransportFailure` keeps its phase. `send` and `open` raise any other
    exception of the function unchanged.
    """

    async def send(self, request: Request, timeout: float) -> Response:
        """Call the function and return its response. `timeout` is ignored."""
        # Unlike the sync form: the function may be a coroutine function or a plain one.
        if self._closed:
            raise TransportClosedError
        try:
            response = self._function(request)
            return _checked(await response if inspect.isawaitable(response) else response)
        except Exception as error:
            raise _failure(error) from error

    async def open(self, request: Request, timeout: float) -> _AsyncBody:
        """Call the function and return its response with an open body. `timeout` is ignored."""
        return _AsyncBody(await self.send(request, timeout))

    async def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`. Other tasks of the event loop run meanwhile."""
        # Unlike the sync form: an event loop has a sleep of its own.
        import anyio

        await anyio.sleep(seconds)

    async def close(self) -> None:
        """Make a later `send` or `open` raise `TransportClosedError`."""
        self._closed = True
