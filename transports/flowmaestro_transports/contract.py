"""The transport contract: all that an HTTP stack must offer to carry FlowMaestro.

A transport moves bytes, sleeps and tells the time. It knows nothing of JSON, retries or
FlowMaestro. Rules that the signatures cannot say:

* A failure of the network is raised as `TransportFailure` with its phase, the library's own
  exception chained as the cause, or its text where it holds the request. Nothing else may leak.
* Redirects are not followed, cookies are not kept, no credential is added, and the headers of
  the request are sent as they are, plus Host, Content-Length and connection headers.
* Bodies are handed over with any content coding undone; if the stack undoes it, it drops the
  `Content-Encoding` field of the reply.
* An open body does not count against the limit of connections for calls; waiting for a free
  connection counts in `timeout`.
* A quiet body is neither at its end nor broken. A transport that cannot wait for more without
  losing the body says so with an attribute `patient = False` (absence means True); its quiet
  read raises `TransportFailure` (*reply broken*), and the event stream then reconnects.
* If it sends secrets beside the request, such as a proxy's password, it lists them in an attribute
  `secrets`, a sequence of strings. No error shows them.
* An async transport releases what it holds when the calling task is cancelled.
* A transport in virtual time may have three more attributes: `random` (see `RandomSource`),
  `in_flight` (a method, see `in_flight_of`), and `wall_clock` (a function that returns
  Unix seconds).
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

from flowmaestro_core.http.messages import Headers, Request, Response

IDLE_SECONDS = 50.0
"""How long an idle connection is kept: less than the 60 s after which load balancers drop one,
often silently."""

SyncFunction = Callable[[Request], Response]
"""A function that a sync client accepts instead of a `Transport`."""
AsyncFunction = Callable[[Request], Union[Response, Awaitable[Response]]]
"""The same for an async client: a coroutine function, or a plain one."""


def secrets_of(transport: object) -> Tuple[str, ...]:
    """Return the secrets that a transport sends beside the requests (its attribute `secrets`)."""
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
    """A reply whose head has come and whose body is still open."""

    def read(self, patience: float) -> Optional[bytes]:
        """Return some bytes of the body as soon as there are any.

        `b""` is the end of a complete body. `None` means that nothing came within `patience`
        seconds; the body can still be read. Raises `TransportFailure` with phase
        *reply broken* when the body breaks off, a premature end of the connection included.
        """
        ...

    def close(self) -> None:
        """Release the connection now, read to the end or not. Closing twice is harmless.

        Any thread may call it, the garbage collector's included. A `read` in another thread
        wakes and raises `TransportFailure`.
        """
        ...


@runtime_checkable
class Transport(Protocol):
    """What a sync client needs. Methods may be called from several threads at once."""

    def send(self, request: Request, timeout: float) -> Response:
        """Send the request and read the whole reply, all within `timeout` seconds.

        `timeout` may be a `Timeout`, whose phases may be kept to as well. Raises
        `TransportFailure`.
        """
        ...

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """Send the request and read the head of the reply within `timeout` seconds.

        `timeout` does not bound the body. Raises `TransportFailure`.
        """
        ...

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass on this transport's clock."""
        ...

    def now(self) -> float:
        """Seconds on this transport's monotonic clock."""
        ...

    def close(self) -> None:
        """Close every connection.

        Closing twice is harmless; a later call raises `TransportClosedError`.

        A `send` or `open` in another thread wakes, if the stack can do so. It raises
        `TransportClosedError` if nothing was sent, else `TransportFailure`. A `sleep` may raise
        `TransportClosedError`, too.
        """
        ...


class InterruptibleTransport(Transport, Protocol):
    """A `Transport` for one user, whose steps another thread can cut short."""

    def interrupt(self) -> None:
        """Cut short what is under way, and whatever is begun later. Twice is harmless.

        Any thread may call it, the garbage collector's included. `sleep` returns early; `send`
        and `open` raise `TransportFailure`, or bring what had come already. Bodies that are
        open stay so.
        """
        ...


@runtime_checkable
class Interruptible(Protocol):
    """What a `Transport` may offer besides, if other threads can cut its steps short.

    A stream that is closed from another thread then wakes its reader at once, whatever that
    waits for. Without it, a reader that is connecting, polling or pausing finishes that step first.
    """

    def interruptible(self) -> InterruptibleTransport:
        """Return a view of the transport for one user; it need not be closed."""
        ...


class AsyncOpenResponse(_OpenHead, Protocol):
    """`OpenResponse` for an async client."""

    async def read(self, patience: float) -> Optional[bytes]:
        """As `OpenResponse.read`."""
        ...

    async def close(self) -> None:
        """As `OpenResponse.close`; it must succeed even while the calling task is cancelled.

        Only tasks of the event loop that opened it call it. A `read` in another task wakes and
        raises `TransportFailure`.
        """
        ...


@runtime_checkable
class Releasable(Protocol):
    """What an `AsyncOpenResponse` may offer besides, if its stack need not await to let go.

    A stream that its user has dropped is released when it is collected, where nothing can be
    awaited: with `release` at once, without it by a task that awaits `close`.
    """

    def release(self) -> None:
        """As `AsyncOpenResponse.close`, without waiting.

        Called on the thread of the event loop that opened the body, while that runs; or when it
        is gone for good, on any thread, to do what can be done without it.
        """
        ...


@runtime_checkable
class AsyncTransport(Protocol):
    """What an async client needs: `Transport` with coroutines. `now` is a plain method."""

    async def send(self, request: Request, timeout: float) -> Response:
        """As `Transport.send`."""
        ...

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `Transport.open`."""
        ...

    async def sleep(self, seconds: float) -> None:
        """As `Transport.sleep`."""
        ...

    def now(self) -> float:
        """As `Transport.now`."""
        ...

    async def close(self) -> None:
        """As `Transport.close`."""
        ...


InFlightBlock = Callable[[], ContextManager[None]]
"""Makes the `with` block that holds the steps of a call together, in virtual time."""


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
    import random  # which loads a part of `hashlib`: with the first call, not with a client

    return random.Random()  # noqa: S311 - jitter is no secret


def new_token(transport: object) -> str:
    """Return a random text for an idempotency key.

    It is drawn from the transport's own random source, if it has one, else from the system's.
    """
    own: Optional[RandomSource] = getattr(transport, "random", None)
    return os.urandom(16).hex() if own is None else f"{own.getrandbits(128):032x}"


def in_flight_of(transport: object) -> Optional[InFlightBlock]:
    """Return a transport's block for a call in flight (its method `in_flight`), or `None`.

    A transport in virtual time has one, so that no time passes between two requests of a call.
    """
    return getattr(transport, "in_flight", None)


def wall_clock_of(transport: object) -> Callable[[], float]:
    """Return a transport's own wall clock (its attribute `wall_clock`), else the system's."""
    own: Optional[Callable[[], float]] = getattr(transport, "wall_clock", None)
    return time.time if own is None else own
