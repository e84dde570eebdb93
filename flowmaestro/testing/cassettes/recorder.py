"""Transports that record the requests they send, and the pieces of the responses."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import (
    Callable,
    Generator,
    Generic,
    List,
    Literal,
    Optional,
    Tuple,
    TypeVar,
    Union,
    cast,
)

from flowmaestro.testing.cassettes.jsonlines import RecordedExchange
from flowmaestro.testing.cassettes.player import CassetteMismatch
from flowmaestro.testing.virtual.memory import AsyncMemoryTransport, MemoryTransport
from flowmaestro.testing.virtual.playback import Quiet, ReplyStep
from flowmaestro_core.http.messages import (
    Headers,
    Request,
    Response,
    ResponseHead,
    TransportClosedError,
    TransportFailure,
)
from flowmaestro_transports.contract import (
    AsyncOpenResponse,
    AsyncTransport,
    OpenResponse,
    RandomSource,
    Releasable,
    Transport,
    secrets_of,
    wall_clock_of,
)
from flowmaestro_transports.primitives.fork_guard import NotPicklable

Clock = Callable[[], float]
T = TypeVar("T", bound=Union[Transport, AsyncTransport])
W = TypeVar("W", bound=Union[MemoryTransport, AsyncMemoryTransport])
B = TypeVar("B", bound=Union[OpenResponse, AsyncOpenResponse])

_FRAMING = frozenset(
    {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}
)
"""Fields of a response about connection, framing and content coding. They are not recorded."""


class Recording:
    """The exchanges that are being recorded, in the order of their requests."""

    def __init__(self) -> None:
        self.begun: List[ExchangeRecorder] = []
        self.transports: List[object] = []
        """The transports whose exchanges are recorded."""

    def begin(self, request: Request, clock: Clock) -> ExchangeRecorder:
        """Return a recorder for the exchange of a request that will be sent."""
        exchange = ExchangeRecorder(request, clock)
        self.begun.append(exchange)
        return exchange

    def exchanges(self) -> List[RecordedExchange]:
        """Return all exchanges so far, except those that a closed transport refused to send.

        An unfinished exchange counts as closed by its reader.
        """
        return [it.exchange() for it in self.begun if not it.nothing_sent]

    def secrets(self) -> List[str]:
        """Return the secrets that the transports add to requests (see `secrets_of`)."""
        return [secret for transport in self.transports for secret in secrets_of(transport)]


class ExchangeRecorder:
    """One exchange that is being recorded."""

    def __init__(self, request: Request, clock: Clock) -> None:
        self.nothing_sent: bool = False
        """Whether a closed transport refused the request, so that there is nothing to replay."""
        self._request = request
        self._clock = clock
        self._steps: List[ReplyStep] = []
        self._time = clock()
        self._ended = False

    def exchange(self) -> RecordedExchange:
        """Return the exchange as recorded so far.

        If the response has not ended, the exchange ends with an endless `Quiet`.
        """
        silence = () if self._ended else (Quiet(),)
        return RecordedExchange(self._request, (*self._steps, *silence))

    def note(self, step: Optional[ReplyStep]) -> None:
        """Record a step and the time since the last one; `None` is the end.

        After the end, a failure or `mark_abandoned`, do nothing.
        """
        if self._ended:
            return
        now = self._clock()
        if now > self._time:
            self._steps.append(Quiet(now - self._time))
        self._time = now
        if step is not None:
            self._steps.append(step)
        self._ended = step is None or isinstance(step, TransportFailure)

    def mark_abandoned(self) -> None:
        """Record that the reader closed the body before its end, unless the response has ended.

        Nothing is recorded afterwards.
        """
        if not self._ended:
            self._steps.append(Quiet())
            self._ended = True

    def head(self, reply: Union[Response, OpenResponse, AsyncOpenResponse]) -> None:
        """Record the head of the response, without the fields in `_FRAMING`."""
        fields = [pair for pair in reply.headers.pairs if pair[0].lower() not in _FRAMING]
        self.note(ResponseHead(reply.status, fields))

    def whole(self, response: Response) -> None:
        """Record a whole response."""
        self.head(response)
        if response.body:
            self.note(response.body)
        self.note(None)

    def read(self, data: Optional[bytes]) -> None:
        """Record the result of a read: bytes, or `b""` for the end. `None` adds nothing."""
        if data is not None:
            self.note(data or None)

    @contextmanager
    def recording_failure(self) -> Generator[None, None, None]:
        """Record a `TransportFailure` that is raised in the `with` block.

        A `TransportClosedError` is not recorded; if nothing was recorded before, it sets
        `nothing_sent`. Either error is raised again.
        """
        try:
            yield
        except TransportFailure as failure:
            self.note(failure)
            raise
        except TransportClosedError:
            self.nothing_sent = not self._steps
            raise


class _Recorder(NotPicklable, Generic[T, W]):
    """Base of the sync and the async recording transport.

    `replaying` replays the exchanges of a cassette; only other requests are sent and recorded.
    Without `replaying`, all requests are. The time of this transport is the sum of two clocks: the
    virtual one of `replaying` and that of `inner`. A pause after a replayed response takes virtual
    time. A pause after a recorded response takes time on the clock of `inner`.
    """

    of_testing_kit: Literal[True] = True
    """It may send while a fake is installed: whoever records wants the network."""

    def __init__(self, inner: T, recording: Recording, replaying: Optional[W] = None) -> None:
        self.patient: bool = getattr(inner, "patient", True)
        self.random: Optional[RandomSource] = getattr(inner, "random", None)
        self.wall_clock: Callable[[], float] = wall_clock_of(inner)
        self._around = getattr(inner, "in_flight", nullcontext)
        self._recording = recording
        self._inner: T = inner
        self._replaying: Optional[W] = replaying
        # Each thread and task has its own value, because their calls may run at the same time.
        self._live = ContextVar("live", default=replaying is None)
        recording.transports.append(inner)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._inner!r}>"

    @property
    def secrets(self) -> Tuple[str, ...]:
        """The secrets that `inner` adds to requests (see `secrets_of`)."""
        return secrets_of(self._inner)

    @contextmanager
    def in_flight(self) -> Generator[None, None, None]:
        """Count a `with` block as one call in flight, on `replaying` and `inner`.

        Either is left out if it is missing or does not count calls.
        """
        replaying = self._replaying
        with self._around(), nullcontext() if replaying is None else replaying.in_flight():
            yield

    @contextmanager
    def _if_held(self) -> Generator[None, None, None]:
        """Suppress `CassetteMismatch` in a `with` block, which replays a request and returns.

        So the code after the block runs only if the cassette lacks the request. It sends and
        records the request.
        """
        self._live.set(False)
        try:
            yield
        except CassetteMismatch:
            self._live.set(True)

    def now(self) -> float:
        """Return the time of `inner` plus the virtual time of `replaying`, in seconds."""
        return self._inner.now() + (0.0 if self._replaying is None else self._replaying.now())


class RecordingTransport(_Recorder[Transport, MemoryTransport]):
    """A sync transport that replays responses, or sends requests through `inner` and records."""

    def send(self, request: Request, timeout: float) -> Response:
        """Return the recorded response, if the cassette holds one for the request.

        Else send the request through `inner` and record the exchange.
        """
        if self._replaying is not None:
            with self._if_held():
                return self._replaying.send(request, timeout)
        exchange = self._recording.begin(request, self._inner.now)
        with exchange.recording_failure():
            response = self._inner.send(request, timeout)
        exchange.whole(response)
        return response

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """Return the recorded response, with its body open, if the cassette holds one.

        Else send the request through `inner` and record the exchange.
        """
        if self._replaying is not None:
            with self._if_held():
                return self._replaying.open(request, timeout)
        exchange = self._recording.begin(request, self._inner.now)
        with exchange.recording_failure():
            body = self._inner.open(request, timeout)
        exchange.head(body)
        return RecordedBody(body, exchange)

    def sleep(self, seconds: float) -> None:
        """Pause on the virtual clock, or on that of `inner`.

        The clock is the one on which the last request of this thread or task was answered.
        """
        if self._live.get() or self._replaying is None:
            self._inner.sleep(seconds)
        else:
            self._replaying.sleep(seconds)

    def close(self) -> None:
        """Close both transports: the one that replays, and `inner`."""
        if self._replaying is not None:
            self._replaying.close()
        self._inner.close()


class AsyncRecordingTransport(_Recorder[AsyncTransport, AsyncMemoryTransport]):
    """An async transport that replays responses, or sends requests through `inner` and records."""

    async def send(self, request: Request, timeout: float) -> Response:
        """Return the recorded response, if the cassette holds one for the request.

        Else send the request through `inner` and record the exchange.
        """
        if self._replaying is not None:
            with self._if_held():
                return await self._replaying.send(request, timeout)
        exchange = self._recording.begin(request, self._inner.now)
        with exchange.recording_failure():
            response = await self._inner.send(request, timeout)
        exchange.whole(response)
        return response

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """Return the recorded response, with its body open, if the cassette holds one.

        Else send the request through `inner` and record the exchange.
        """
        # Unlike the sync form: only an async body may have to be released without waiting.
        if self._replaying is not None:
            with self._if_held():
                return await self._replaying.open(request, timeout)
        exchange = self._recording.begin(request, self._inner.now)
        with exchange.recording_failure():
            body = await self._inner.open(request, timeout)
        exchange.head(body)
        if isinstance(body, Releasable):
            return ReleasableRecordedBody(body, exchange)
        return AsyncRecordedBody(body, exchange)

    async def sleep(self, seconds: float) -> None:
        """Pause on the virtual clock, or on that of `inner`.

        The clock is the one on which the last request of this thread or task was answered.
        """
        if self._live.get() or self._replaying is None:
            await self._inner.sleep(seconds)
        else:
            await self._replaying.sleep(seconds)

    async def close(self) -> None:
        """Close both transports: the one that replays, and `inner`."""
        if self._replaying is not None:
            await self._replaying.close()
        await self._inner.close()


class _RecordedBody(Generic[B]):
    """Base of the sync and the async recorded body."""

    def __init__(self, inner: B, exchange: ExchangeRecorder) -> None:
        self.status: int = inner.status
        self.headers: Headers = inner.headers
        self._inner: B = inner
        self._exchange = exchange


class RecordedBody(_RecordedBody[OpenResponse]):
    """An open body that is recorded as it is read."""

    def read(self, patience: float) -> Optional[bytes]:
        """Read from the inner body, and return the result. Record it if it is not `None`.

        It is some bytes, `b""` at the end, or `None` if no byte came within `patience` seconds.
        """
        with self._exchange.recording_failure():
            data = self._inner.read(patience)
        self._exchange.read(data)
        return data

    def close(self) -> None:
        """Close the inner body. Record that its reader closed it unless it had ended or failed."""
        self._exchange.mark_abandoned()
        self._inner.close()


class AsyncRecordedBody(_RecordedBody[AsyncOpenResponse]):
    """`RecordedBody` for an async client."""

    async def read(self, patience: float) -> Optional[bytes]:
        """Read from the inner body, and return the result. Record it if it is not `None`.

        It is some bytes, `b""` at the end, or `None` if no byte came within `patience` seconds.
        """
        with self._exchange.recording_failure():
            data = await self._inner.read(patience)
        self._exchange.read(data)
        return data

    async def close(self) -> None:
        """Close the inner body. Record that its reader closed it unless it had ended or failed."""
        self._exchange.mark_abandoned()
        await self._inner.close()


class ReleasableRecordedBody(AsyncRecordedBody):
    """A recorded body that can be released without waiting."""

    def release(self) -> None:
        """Close the inner body without awaiting.

        Record that its reader closed it unless it had ended or failed.
        """
        self._exchange.mark_abandoned()
        cast("Releasable", self._inner).release()
