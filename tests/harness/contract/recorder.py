"""Transports that keep a trace of what they are asked to do, on a clock that only they move.

An action that takes no time in the script takes none here, whatever the stack beneath needs, so
that traces can be compared. How many reads a body takes is up to how its bytes come in pieces;
reads in a row therefore count as one.
"""

from __future__ import annotations

import random
from typing import Any, List, Optional, Tuple
from urllib.parse import urlsplit

from flowmaestro_core.http.messages import Request, Response
from flowmaestro_transports import AsyncOpenResponse, AsyncTransport, OpenResponse, Transport
from tests.harness.contract.worlds import Hurried, HurriedAsync, HurriedAsyncBody, HurriedBody

Entry = Tuple[Any, ...]


class Trace:
    """What was done, in order, with the random source and the clock of each client."""

    def __init__(self) -> None:
        self.entries: List[Entry] = []
        self.random = random.Random(0)
        self.clock = 0.0

    def begin(self, step: str) -> None:
        """Note a step of the scenario, and seed the random source with its name."""
        self.random.seed(step)
        self.entries.append(("step", step))

    def asked(self, verb: str, request: Request, timeout: float) -> None:
        url = urlsplit(request.url)
        where = f"{url.path}?{url.query}" if url.query else url.path
        fields = (request.method, where, request.headers.pairs, request.body)
        self.entries.append((verb, *fields, timeout))

    def read(self, patience: float) -> None:
        entry = ("read", patience)
        if self.entries[-1] != entry:
            self.entries.append(entry)

    def slept(self, seconds: float) -> None:
        self.clock += seconds
        self.entries.append(("sleep", seconds))

    def closed(self) -> None:
        self.entries.append(("close",))

    def ended(self, value: Any) -> None:
        self.entries.append(("ended", value))


class Recorder(Hurried):
    """A sync transport with a trace."""

    def __init__(self, inner: Transport, trace: Trace) -> None:
        super().__init__(inner, 1.0)
        self._trace = trace
        self.random = trace.random

    def send(self, request: Request, timeout: float) -> Response:
        self._trace.asked("send", request, timeout)
        return super().send(request, timeout)

    def open(self, request: Request, timeout: float) -> OpenResponse:
        self._trace.asked("open", request, timeout)
        return _Body(self._inner.open(request, timeout), self._trace)

    def sleep(self, seconds: float) -> None:
        self._trace.slept(seconds)

    def now(self) -> float:
        return self._trace.clock


class _Body(HurriedBody):
    def __init__(self, inner: OpenResponse, trace: Trace) -> None:
        super().__init__(inner, 1.0)
        self._trace = trace

    def read(self, patience: float) -> Optional[bytes]:
        self._trace.read(patience)
        return super().read(patience)

    def close(self) -> None:
        self._trace.closed()
        super().close()


class AsyncRecorder(HurriedAsync):
    """`Recorder` for an async transport."""

    def __init__(self, inner: AsyncTransport, trace: Trace) -> None:
        super().__init__(inner, 1.0)
        self._trace = trace
        self.random = trace.random

    async def send(self, request: Request, timeout: float) -> Response:
        self._trace.asked("send", request, timeout)
        return await super().send(request, timeout)

    async def open(self, request: Request, timeout: float) -> AsyncOpenResponse:
        self._trace.asked("open", request, timeout)
        return _AsyncBody(await self._inner.open(request, timeout), self._trace)

    async def sleep(self, seconds: float) -> None:
        self._trace.slept(seconds)

    def now(self) -> float:
        return self._trace.clock


class _AsyncBody(HurriedAsyncBody):
    def __init__(self, inner: AsyncOpenResponse, trace: Trace) -> None:
        super().__init__(inner, 1.0)
        self._trace = trace

    async def read(self, patience: float) -> Optional[bytes]:
        self._trace.read(patience)
        return await super().read(patience)

    async def close(self) -> None:
        self._trace.closed()
        await super().close()
