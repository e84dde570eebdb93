"""Reach the fake without a network, on a virtual clock: a five-minute wait takes microseconds.

Whoever waits moves the clock, and moves it for everybody: of several tasks or threads on one
clock, one's sleep lets the same time pass for the others.
"""

from __future__ import annotations

import random
import weakref
from typing import Optional

from flowmaestro.testing.clock import VirtualClock
from flowmaestro.testing.fake import FakeFlowMaestro
from flowmaestro.testing.replies import EventStream, FakeReply
from flowmaestro_core.http import (
    Headers,
    Phase,
    Request,
    Response,
    TransportClosedError,
    TransportFailure,
)

RECEIVER_STATUS = 200
"""What every webhook's receiver answers here."""


class MemoryTransport:
    """A blocking transport whose server is `fake` and whose time is `clock`.

    The default clock is a new one, where the fake's time is now. `random` are the dice for a
    client that wants its jitter repeatable. Webhook deliveries that come due while time passes
    succeed at once; find them in `fake.deliveries`.
    """

    def __init__(self, fake: FakeFlowMaestro, clock: Optional[VirtualClock] = None) -> None:
        self.fake = fake
        self.clock = VirtualClock(fake.now) if clock is None else clock
        self.random = random.Random(fake.seed)  # noqa: S311 - repeatable on purpose
        self._closed = False
        self._open: weakref.WeakSet[MemoryOpenResponse] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"<MemoryTransport to {self.fake!r}>"

    def send(self, request: Request, timeout: float) -> Response:
        """Have the fake answer, letting as much time pass as the answer takes.

        Raises `TransportFailure` once `timeout` seconds have passed; the fake goes on. Raises
        `RuntimeError` when this transport is closed.
        """
        with self.fake.lock:
            deadline = self.now() + timeout
            response = self._hold(self._reply(request, deadline))
            try:
                return Response(response.status, response.headers, self._whole(response, deadline))
            finally:
                response.close()

    def open(self, request: Request, timeout: float) -> MemoryOpenResponse:
        """As `send`, but the body is kept open."""
        with self.fake.lock:
            return self._hold(self._reply(request, self.now() + timeout))

    def sleep(self, seconds: float) -> None:
        """Advance the clock by `seconds`."""
        with self.fake.lock:
            self.pass_until(self.now() + seconds)

    def now(self) -> float:
        """Seconds on the virtual clock, no earlier than where other drivers have the fake."""
        self.clock.advance_to(self.fake.now)
        return self.clock.now

    def close(self) -> None:
        """Break off every open body; later calls raise `RuntimeError`."""
        with self.fake.lock:
            self._closed = True
            for response in list(self._open):
                response.close()

    def pass_until(self, time: float) -> None:
        """Advance the clock to `time`, and deliver what comes due on the way."""
        while True:
            upcoming = self.fake.next_time()
            moment = time if upcoming is None else min(time, upcoming)
            self.clock.advance_to(moment)
            for delivery in self.fake.due(moment):
                self.fake.delivered(delivery, RECEIVER_STATUS, moment)
            if moment >= time:
                return

    def _reply(self, request: Request, deadline: float) -> FakeReply:
        if self._closed:
            raise TransportClosedError
        reply = self.fake.handle(request, self.clock.now)
        self.pass_until(self.clock.now)
        while not reply.ready:
            upcoming = self.fake.next_time()
            if upcoming is None or upcoming > deadline:
                self.pass_until(deadline)
                message = "no reply came in time"
                raise TransportFailure(Phase.MAYBE_PROCESSED, message, timed_out=True)
            self.pass_until(upcoming)
        return reply

    def _whole(self, response: MemoryOpenResponse, deadline: float) -> bytes:
        body = bytearray()
        while True:
            data = response.read(deadline - self.now())
            if data is None:
                message = "the reply did not end in time"
                raise TransportFailure(Phase.REPLY_BROKEN, message, timed_out=True)
            if not data:
                return bytes(body)
            body += data

    def _hold(self, reply: FakeReply) -> MemoryOpenResponse:
        response = MemoryOpenResponse(self, reply)
        self._open.add(response)
        return response


class MemoryOpenResponse:
    """A reply from the fake whose body is still open."""

    def __init__(self, transport: MemoryTransport, reply: FakeReply) -> None:
        self._transport = transport
        self._reply = reply
        self._unread = reply.body
        self._closed = False

    @property
    def status(self) -> int:
        """The status code."""
        return self._reply.status

    @property
    def headers(self) -> Headers:
        """The header fields, in the order they came."""
        return self._reply.headers

    def read(self, patience: float) -> Optional[bytes]:
        """Let time pass until there are bytes, or for `patience` seconds.

        `b""` is the end, `None` a quiet body. Raises `TransportFailure` when it was closed.
        """
        with self._transport.fake.lock:
            if self._closed:
                raise TransportFailure(Phase.REPLY_BROKEN, "this response is closed")
            if self._reply.stream is None:
                data, self._unread = self._unread, b""
                return data
            return self._read(self._reply.stream, patience)

    def _read(self, stream: EventStream, patience: float) -> Optional[bytes]:
        now = self._transport.now()
        deadline = now + patience
        while True:
            data, next_time, ended = stream.poll(now)
            if data or ended:
                return data
            if next_time is None or next_time > deadline:
                self._transport.pass_until(deadline)
                return None
            self._transport.pass_until(next_time)
            now = next_time

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        if self._reply.stream is not None:
            self._reply.stream.close()


class AsyncMemoryTransport:
    """`MemoryTransport` for an awaiting client, on asyncio and trio alike.

    Every call lets the event loop run other tasks once, and none really waits.
    """

    def __init__(self, fake: FakeFlowMaestro, clock: Optional[VirtualClock] = None) -> None:
        self._blocking = MemoryTransport(fake, clock)
        self.fake = fake
        self.clock = self._blocking.clock
        self.random = self._blocking.random

    def __repr__(self) -> str:
        return f"<AsyncMemoryTransport to {self.fake!r}>"

    async def send(self, request: Request, timeout: float) -> Response:
        """As `MemoryTransport.send`."""
        await _let_others_run()
        return self._blocking.send(request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncMemoryOpenResponse:
        """As `MemoryTransport.open`."""
        await _let_others_run()
        return AsyncMemoryOpenResponse(self._blocking.open(request, timeout))

    async def sleep(self, seconds: float) -> None:
        """As `MemoryTransport.sleep`."""
        await _let_others_run()
        self._blocking.sleep(seconds)

    def now(self) -> float:
        """Seconds on the virtual clock."""
        return self._blocking.now()

    async def close(self) -> None:
        """As `MemoryTransport.close`."""
        self._blocking.close()


class AsyncMemoryOpenResponse:
    """`MemoryOpenResponse` for an awaiting client."""

    def __init__(self, response: MemoryOpenResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def headers(self) -> Headers:
        """The header fields, in the order they came."""
        return self._response.headers

    async def read(self, patience: float) -> Optional[bytes]:
        """As `MemoryOpenResponse.read`."""
        await _let_others_run()
        return self._response.read(patience)

    async def close(self) -> None:
        """As `MemoryOpenResponse.close`; nothing in it can be cancelled."""
        self.release()

    def release(self) -> None:
        """`close`, for those who cannot await."""
        self._response.close()


async def _let_others_run() -> None:
    from anyio.lowlevel import checkpoint

    await checkpoint()
