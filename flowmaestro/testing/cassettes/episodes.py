"""Transports that replay what a cassette holds and record what it does not.

Their time is that of both: what is replayed takes virtual time, what is recorded takes its own.
Between two requests they wait as the first of them was answered.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generator, Tuple, Union

from flowmaestro.testing.cassettes.errors import CassetteMismatch
from flowmaestro.testing.cassettes.recorder import AsyncRecordingTransport, RecordingTransport
from flowmaestro.testing.virtual.transport import AsyncWire, SyncWire
from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports.contract import AsyncOpenResponse, OpenResponse
from flowmaestro_transports.driving.fork_guard import NotPicklable


class _Episodes(NotPicklable):
    """What both transports have."""

    def __init__(
        self,
        replaying: Union[SyncWire, AsyncWire],
        recording: Union[RecordingTransport, AsyncRecordingTransport],
    ) -> None:
        self.patient = recording.patient
        self.random = recording.random
        self._both = replaying, recording
        # Of each thread and task its own: others make their calls beside it.
        self._live = ContextVar("live", default=False)

    @property
    def secrets(self) -> Tuple[str, ...]:
        """Those of the recorded transport."""
        return self._both[1].secrets

    @contextmanager
    def in_flight(self) -> Generator[None, None, None]:
        """A `with` block that counts as one call in flight."""
        replaying, recording = self._both
        with replaying.in_flight(), recording.in_flight():
            yield

    def now(self) -> float:
        """Seconds on both clocks."""
        replaying, recording = self._both
        return replaying.now() + recording.now()


class EpisodesTransport(_Episodes):
    """The blocking one."""

    def __init__(self, replaying: SyncWire, recording: RecordingTransport) -> None:
        super().__init__(replaying, recording)
        self._replaying, self._recording = replaying, recording

    def send(self, request: Request, timeout: float) -> Response:
        """Replay it, or record it."""
        self._live.set(False)
        try:
            return self._replaying.send(request, timeout)
        except CassetteMismatch:
            self._live.set(True)
        return self._recording.send(request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        """As `send`, but the body is kept open."""
        self._live.set(False)
        try:
            return self._replaying.open(request, timeout)
        except CassetteMismatch:
            self._live.set(True)
        return self._recording.open(request, timeout)

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass where the last request was answered."""
        (self._recording if self._live.get() else self._replaying).sleep(seconds)

    def close(self) -> None:
        """Close both."""
        self._replaying.close()
        self._recording.close()


class AsyncEpisodesTransport(_Episodes):
    """The awaiting one."""

    def __init__(self, replaying: AsyncWire, recording: AsyncRecordingTransport) -> None:
        super().__init__(replaying, recording)
        self._replaying, self._recording = replaying, recording

    async def send(self, request: Request, timeout: float) -> Response:
        """As `EpisodesTransport.send`."""
        self._live.set(False)
        try:
            return await self._replaying.send(request, timeout)
        except CassetteMismatch:
            self._live.set(True)
        return await self._recording.send(request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        """As `EpisodesTransport.open`."""
        self._live.set(False)
        try:
            return await self._replaying.open(request, timeout)
        except CassetteMismatch:
            self._live.set(True)
        return await self._recording.open(request, timeout)

    async def sleep(self, seconds: float) -> None:
        """As `EpisodesTransport.sleep`."""
        await (self._recording if self._live.get() else self._replaying).sleep(seconds)

    async def close(self) -> None:
        """As `EpisodesTransport.close`."""
        await self._replaying.close()
        await self._recording.close()
