"""The transport contract: all that an HTTP stack must offer to the SDK.

A transport moves bytes, sleeps and tells the time. It knows nothing of JSON, retries or
FlowMaestro. Rules that the signatures cannot say:

* A failure of the network is raised as `TransportFailure` with its phase. The library's own
  exception is chained as the cause, or only its text if the exception refers to the request. No
  other exception of the library may reach the caller.
* Redirects are not followed, cookies are not stored, no credential is added, and the headers of
  the request are sent as they are, plus Host, Content-Length and connection headers.
* Bodies are returned decoded. The transport drops the `Content-Encoding` field of a response that
  it has decoded.
* An open body does not count against the transport's own limit of connections for calls; waiting
  for a free connection is part of `timeout`.
* A quiet body is neither at its end nor broken. A transport that cannot continue to read after a
  timeout says so with an attribute `patient = False` (absence means True). If its read times out,
  it raises `TransportFailure` (*reply broken*, `timed_out`). The event stream then reconnects.
* `Request.max_reply_size`, if it is not `None`, is the most bytes of a decoded body that the caller
  of `send` can use. A transport that bounds its memory so has an attribute `bounds_replies = True`:
  `send` stops to read once it has more bytes, returns these (at most 1 MiB more), and closes the
  connection. The caller raises the error. Without this attribute, nothing is expected.
* If a transport sends secrets beside the request, such as a proxy's password, it lists them in an
  attribute `secrets`, a collection of strings. No error shows them.
* An async transport releases its connection when the calling task is cancelled.
* A client owns its transport, also one that the caller made: closing the client closes it. Clients
  derived with `with_options` share it, and closing them leaves it open.
* A transport in virtual time may have three more attributes: `random` (see `RandomSource`),
  `in_flight` (a method, see `InFlightBlock`), and `wall_clock` (a function that returns
  Unix seconds).
* A transport that simulates the death of its process may have a method `during`: see
  `DuringBlock`.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from typing import (
    Awaitable,
    Callable,
    ContextManager,
    Optional,
    Protocol,
    Tuple,
    Union,
    runtime_checkable,
)

from flowmaestro_core.actions import Action
from flowmaestro_core.http.messages import Headers, Request, Response

SyncFunction = Callable[[Request], Response]
"""A function that a sync client accepts instead of a `Transport`."""
AsyncFunction = Callable[[Request], Union[Response, Awaitable[Response]]]
"""A function that an async client accepts: a coroutine function, or a plain one."""


def secrets_of(transport: object) -> Tuple[str, ...]:
    """Return the secrets that a transport itself sends, such as those for a proxy.

    They are its attribute `secrets`, if it has one.
    """
    return tuple(getattr(transport, "secrets", ()))


class _OpenHead(Protocol):
    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def headers(self) -> Headers:
        """The header fields, in the order they came."""
        ...


class OpenResponse(_OpenHead, Protocol):
    """A response whose head was received and whose body is still open."""

    def read(self, patience: float) -> Optional[bytes]:
        """Return some bytes of the body as soon as there are any.

        `b""` is the end of a complete body. `None` means that there were none within `patience`
        seconds; the body can still be read. Raises `TransportFailure` with phase *reply broken* if
        the body is truncated, also by a premature end of the connection. Bytes that arrived whole
        before that are returned first, except where the library returns no response for them.
        """
        ...

    def close(self) -> None:
        """Release the connection now, at the end of the body or before. Closing twice is harmless.

        Any thread may call this, also one that runs the garbage collector. A `read` in another
        thread wakes and raises `TransportFailure`.
        """
        ...


@runtime_checkable
class Transport(Protocol):
    """The transport of a sync client. Methods may be called from several threads at once."""

    def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response, all within `timeout` seconds.

        `timeout` may be a `Timeout`. A transport may also observe the limits of a `Timeout` for
        connecting, for the head and for each read. Raises `TransportFailure` if the network or the
        server fails, or if a time limit has passed.
        """
        ...

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """Send the request, and return its response as soon as the head was received.

        All of this may take at most `timeout` seconds, which do not bound the body. Raises
        `TransportFailure`.
        """
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on this transport's clock."""
        ...

    def now(self) -> float:
        """Return the time of this transport's monotonic clock, in seconds."""
        ...

    def close(self) -> None:
        """Close every open body, and every connection that the transport owns.

        Closing twice is harmless; a later `send` or `open` raises `TransportClosedError`.

        A `send` or `open` in another thread wakes, if the stack can do so. It raises
        `TransportClosedError` if nothing was sent, else `TransportFailure`. A `sleep` may raise
        `TransportClosedError`, too.
        """
        ...


class InterruptibleTransport(Transport, Protocol):
    """A `Transport` for one stream, whose operations another thread can interrupt."""

    def interrupt(self) -> None:
        """Interrupt the operation in flight, and every later one. May be called twice.

        Any thread may call this, also one that runs the garbage collector. `sleep` returns early.
        `send` and `open` raise `TransportFailure`, or return a response that is already there. Open
        bodies stay open.
        """
        ...


@runtime_checkable
class Interruptible(Protocol):
    """An optional part of a `Transport`: other threads can interrupt its operations.

    With this part, the reader of a stream wakes at once if another thread closes the stream,
    whatever the reader waits for, except a name resolution. Without this part, a reader that is
    connecting, polling or pausing finishes that operation first.
    """

    def interruptible(self) -> InterruptibleTransport:
        """Return a view of the transport for one stream. The view need not be closed.

        The view need not have the optional attributes of a transport, such as `random` or
        `patient`: drivers read those of the transport.
        """
        ...


class AsyncOpenResponse(_OpenHead, Protocol):
    """`OpenResponse` for an async client."""

    async def read(self, patience: float) -> Optional[bytes]:
        """Return some bytes of the body as soon as there are any.

        `b""` is the end of a complete body. `None` means that there were none within `patience`
        seconds; the body can still be read. Raises `TransportFailure` with phase *reply broken* if
        the body is truncated, also by a premature end of the connection. Bytes that arrived whole
        before that are returned first, except where the library returns no response for them.
        """
        ...

    async def close(self) -> None:
        """Release the connection now, even if the calling task is cancelled.

        The body may be at its end or not. Closing twice is harmless. Only tasks of the event loop
        that opened the body call this. A `read` in another task wakes and raises
        `TransportFailure`.
        """
        ...


@runtime_checkable
class Releasable(Protocol):
    """An optional part of an `AsyncOpenResponse`: it can be closed without `await`.

    When a stream that was not closed is collected, its body is released. Nothing can be awaited
    then, so `release` is called. If the body has no `release`, a new task awaits `close`.
    """

    def release(self) -> None:
        """Release the connection without waiting: `close` as a plain method.

        This is called on the thread of the event loop that opened the body. If that loop has ended,
        it is called on any thread, and releases what can be released without the loop.
        """
        ...


@runtime_checkable
class AsyncTransport(Protocol):
    """The transport of an async client: `Transport` with coroutines. `now` is a plain method."""

    async def send(self, request: Request, timeout: float) -> Response:
        """Send the request and receive the whole response, all within `timeout` seconds.

        `timeout` may be a `Timeout`. A transport may also observe the limits of a `Timeout` for
        connecting, for the head and for each read. Raises `TransportFailure` if the network or the
        server fails, or if a time limit has passed.
        """
        ...

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """Send the request and receive the head of the response within `timeout` seconds.

        `timeout` does not bound the body. Raises `TransportFailure`.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on this transport's clock."""
        ...

    def now(self) -> float:
        """Return the time of this transport's monotonic clock, in seconds."""
        ...

    async def close(self) -> None:
        """Close every open body, and every connection that the transport owns.

        Closing twice is harmless; a later `send` or `open` raises `TransportClosedError`. A `send`
        or `open` in another task wakes, if the stack can do so. It raises `TransportClosedError` if
        nothing was sent, else `TransportFailure`. A `sleep` may raise `TransportClosedError`, too.
        """
        ...


InFlightBlock = Callable[[], ContextManager[None]]
"""The method `in_flight` of a transport in virtual time: returns a context manager for a call.

In its block, the clock advances only while the call itself waits, not while it computes.
"""


class RandomSource(Protocol):
    """A source of random numbers, such as a `random.Random`.

    A transport may have its own (its attribute `random`), for repeatable runs. The jitter of
    retries and the idempotency keys are then drawn from it.
    """

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...

    def getrandbits(self, k: int, /) -> int:
        """Return an integer of `k` random bits."""
        ...


def random_source_of(transport: object) -> RandomSource:
    """Return the random source of a transport, else one that all transports share.

    The shared one is not the global `random`, whose state belongs to the application. A child
    after `os.fork` has its own, so that the retries of both processes spread.
    """
    own: Optional[RandomSource] = getattr(transport, "random", None)
    return _random_source_of_process(os.getpid()) if own is None else own


# Shared, because a random source takes 3 KB, and drawing from it is thread-safe.
@lru_cache(maxsize=1)
def _random_source_of_process(_number: int) -> RandomSource:
    # Imported here, because it loads a part of `hashlib`: with the first call, not with a client.
    import random

    return random.Random()  # noqa: S311 - jitter is no secret


def new_token(transport: object) -> str:
    """Return a random text for an idempotency key.

    It is drawn from the transport's own random source, if it has one, else from the system's.
    """
    own: Optional[RandomSource] = getattr(transport, "random", None)
    return os.urandom(16).hex() if own is None else f"{own.getrandbits(128):032x}"


DuringBlock = Callable[[Action, str], ContextManager[object]]
"""The method `during` of a transport that simulates deaths: returns a block for one action.

The driver carries out each `Load` and `Save` in such a block, and enters one before each `Emit`. So
the transport can raise an exception before the action or after it. The text is the path of the
store's file, or `""` if the store is not a file.
"""


def wall_clock_of(transport: object) -> Callable[[], float]:
    """Return a transport's own wall clock (its attribute `wall_clock`), else the system's."""
    own: Optional[Callable[[], float]] = getattr(transport, "wall_clock", None)
    return time.time if own is None else own
