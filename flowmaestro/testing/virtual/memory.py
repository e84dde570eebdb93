"""Transports to a simulated server in memory. In virtual time, five minutes take microseconds.

The steps of a call are written once, as a generator that yields each alarm of the clock to wait
for. The sync transport then blocks its thread until the alarm fires; the async one awaits it.
"""

from __future__ import annotations

import math
import random
import weakref
from typing import Callable, ContextManager, Generator, Literal, Optional, Protocol, Type, TypeVar

from flowmaestro.testing.arguments import check_seconds
from flowmaestro.testing.fake.model.replies import FakeReply
from flowmaestro.testing.virtual.calls import Alarm
from flowmaestro.testing.virtual.clock import VirtualClock
from flowmaestro_core.http.messages import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.primitives.fork_guard import NotPicklable

__tracebackhide__ = True  # pytest shows the lines of the test instead.

T = TypeVar("T")
B = TypeVar("B", bound="_Body")
Steps = Generator[Alarm, None, T]


class SimulatedServer(Protocol):
    """An object that answers requests, with a clock of its own."""

    @property
    def clock(self) -> VirtualClock:
        """The clock of this server, virtual or real."""
        ...

    @property
    def seed(self) -> int:
        """The seed of the random delays of its clients."""
        ...

    def handle(self, request: Request, now: float) -> FakeReply:
        """Carry out a request at the time `now`. Return its response, perhaps not ready yet."""
        ...


class _InMemory(NotPicklable):
    """Base of the sync and the async transport: the server, its clock, and random delays.

    The random source is the transport's own. It begins with the server's `seed`.
    """

    of_testing_kit: Literal[True] = True
    """It does not use the network, so it may send while a fake is installed."""

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self.wall_clock: Optional[Callable[[], float]] = getattr(server, "wall_clock", None)
        """Returns the Unix seconds of the server; `None` if the server has no dates."""
        self.random: random.Random = random.Random(server.seed)  # noqa: S311 - repeatable on purpose
        self._closed = False
        self._open: weakref.WeakSet[_Body] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._server!r}>"

    @property
    def clock(self) -> VirtualClock:
        """The clock of the server in memory, virtual or real, which this transport uses as well."""
        return self._server.clock

    def now(self) -> float:
        """Return the seconds on `clock`."""
        return self.clock.now

    def in_flight(self) -> ContextManager[None]:
        """Count a `with` block as one call in flight.

        In it, virtual time advances only while the call waits for a response or pauses, not while
        the program computes between two requests.
        """
        return self.clock.in_flight()

    def _sending(self, request: Request, timeout: float) -> Steps[Response]:
        deadline = self.clock.now + timeout
        longest_silence = _phase(timeout, "read")
        reply = yield from self._opening(request, timeout, _Body)
        body = bytearray()
        try:
            while True:
                left = deadline - self.clock.now
                data = yield from reply.reading(min(left, longest_silence))
                if data is None:
                    message = "the response did not end in time"
                    raise TransportFailure(Phase.REPLY_BROKEN, message, timed_out=True)
                if not data:
                    return Response(reply.status, reply.headers, bytes(body))
                body += data
        finally:
            reply.break_off()

    def _opening(self, request: Request, timeout: float, kind: Type[B]) -> Steps[B]:
        clock = self.clock
        deadline = clock.now + min(timeout, _phase(timeout, "head"))
        if self._closed:
            raise TransportClosedError
        reply = self._server.handle(request, clock.now)
        try:
            while True:
                with clock.lock:
                    clock.catch_up()
                    if reply.ready or clock.now >= deadline:
                        break
                    alarm = clock.alarm(deadline, reply)
                yield alarm
        except BaseException:
            reply.abandon()
            raise
        if reply.failure is not None:
            raise reply.failure
        if not reply.ready:
            reply.abandon()
            message = "no response was received in time"
            raise TransportFailure(Phase.MAYBE_PROCESSED, message, timed_out=True)
        opened = kind(clock, reply)
        self._open.add(opened)
        return opened

    def _sleeping(self, seconds: float) -> Steps[None]:
        check_seconds("seconds", seconds)
        yield self.clock.alarm(self.clock.now + seconds)

    def _close(self) -> None:
        with self.clock.lock:
            self._closed = True
            for reply in list(self._open):
                reply.break_off()


class _Body:
    """A response whose body is still open."""

    def __init__(self, clock: VirtualClock, reply: FakeReply) -> None:
        self.status: int = reply.status
        self.headers: Headers = reply.headers
        self._clock = clock
        self._stream = reply.stream
        self._unread = reply.body
        self._closed = False

    def reading(self, patience: float) -> Steps[Optional[bytes]]:
        deadline = self._clock.now + patience
        while True:
            with self._clock.lock:
                if self._closed:
                    raise TransportFailure(Phase.REPLY_BROKEN, "this response is closed")
                if self._stream is None:
                    unread, self._unread = self._unread, b""
                    return unread
                data = self._stream.poll(self._clock.now)
                if data is not None:
                    return data
                if self._clock.now >= deadline:
                    return None
                alarm = self._clock.alarm(deadline, self._stream)
            yield alarm

    def break_off(self) -> None:
        with self._clock.lock:
            self._closed = True
            if self._stream is not None:
                self._stream.close()
                self._stream.wake()


class MemoryTransport(_InMemory):
    """A sync transport to a `server` in memory, such as a fake, on the `clock` of that server.

    Clients take their jitter from `random`, which is seeded, so a test is repeatable. Webhook
    deliveries that become due while time advances are made to the fake's receiver. Once they are
    delivered or given up, they are in `fake.deliveries`.
    """

    def send(self, request: Request, timeout: float) -> Response:
        """Return the response of the server. `clock` advances for as long as the response takes.

        Raises `TransportFailure` if the connection is lost, or after `timeout` seconds of `clock`.
        Raises `TransportClosedError` if this transport is closed. The server goes on with a request
        that has timed out.
        """
        return _carry_out(self.clock, self._sending(request, timeout))

    def open(self, request: Request, timeout: float) -> MemoryBody:
        """Return the response of the server with its body open.

        Time advances until the head is there. Raises `TransportFailure` if the connection is lost,
        or after `timeout` seconds, and `TransportClosedError` if this transport is closed.
        """
        return _carry_out(self.clock, self._opening(request, timeout, MemoryBody))

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on `clock`.

        Raises `TypeError` or `ValueError` unless `seconds` is a finite number of at least 0.
        """
        _carry_out(self.clock, self._sleeping(seconds))

    def close(self) -> None:
        """Close every open body. A later `send` or `open` raises `TransportClosedError`."""
        self._close()


class AsyncMemoryTransport(_InMemory):
    """`MemoryTransport` for an async client, on asyncio and trio alike.

    Each `send`, `open`, `sleep` and `read` lets the event loop run other tasks at least once.
    """

    async def send(self, request: Request, timeout: float) -> Response:
        """Return the response of the server. `clock` advances for as long as the response takes.

        Raises `TransportFailure` if the connection is lost, or after `timeout` seconds of `clock`.
        Raises `TransportClosedError` if this transport is closed. The server goes on with a request
        that has timed out.
        """
        return await _carry_out_async(self.clock, self._sending(request, timeout))

    async def open(self, request: Request, timeout: float) -> AsyncMemoryBody:
        """Return the response of the server with its body open.

        Time advances until the head is there. Raises `TransportFailure` if the connection is lost,
        or after `timeout` seconds, and `TransportClosedError` if this transport is closed.
        """
        return await _carry_out_async(self.clock, self._opening(request, timeout, AsyncMemoryBody))

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds` on `clock`.

        Raises `TypeError` or `ValueError` unless `seconds` is a finite number of at least 0.
        """
        await _carry_out_async(self.clock, self._sleeping(seconds))

    async def close(self) -> None:
        """Close every open body. A later `send` or `open` raises `TransportClosedError`."""
        self._close()


class MemoryBody(_Body):
    """A response whose body is still open."""

    def read(self, patience: float) -> Optional[bytes]:
        """Return the next bytes, `b""` at the end, or `None` if no data came.

        Waits at most `patience` seconds on the clock of the transport. Raises `TransportFailure` if
        the connection was lost, or if the body was closed before or during the read.
        """
        return _carry_out(self._clock, self.reading(patience))

    def close(self) -> None:
        """Close the body. A read in another thread wakes and raises `TransportFailure`."""
        self.break_off()


class AsyncMemoryBody(_Body):
    """`MemoryBody` for an async client."""

    async def read(self, patience: float) -> Optional[bytes]:
        """Return the next bytes, `b""` at the end, or `None` if no data came.

        Waits at most `patience` seconds on the clock of the transport. Raises `TransportFailure` if
        the connection was lost, or if the body was closed before or during the read.
        """
        return await _carry_out_async(self._clock, self.reading(patience))

    async def close(self) -> None:
        """Close the body. A read in another task wakes and raises `TransportFailure`.

        This cannot be cancelled, since it never waits.
        """
        # Unlike the sync form: only an async body may have to be released without waiting.
        self.release()

    def release(self) -> None:
        """Do what `close` does, without `await`."""
        # Unlike the sync form: only an async body may have to be released without waiting.
        self.break_off()


def _phase(timeout: float, name: str) -> float:
    """Return the limit of the phase `name` in seconds.

    Infinity if the `Timeout` has no limit for it, or if `timeout` is a plain number.
    """
    limit: Optional[float] = getattr(timeout, name, None)
    return math.inf if limit is None else limit


def _carry_out(clock: VirtualClock, steps: Steps[T]) -> T:
    with clock.in_flight():
        try:
            while True:
                clock.wait(next(steps))
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            steps.close()


async def _carry_out_async(clock: VirtualClock, steps: Steps[T]) -> T:
    # Unlike the sync form: an async call lets other tasks run once.
    from anyio.lowlevel import checkpoint

    with clock.in_flight():
        try:
            await checkpoint()
            while True:
                await clock.wait_async(next(steps))
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            steps.close()
