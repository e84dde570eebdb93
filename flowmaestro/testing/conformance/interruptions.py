"""Checks of exceptions that come from outside, between any two steps of a sync call.

A signal handler raises them: Ctrl-C, a test's time limit, a task queue's soft limit. Here a trace
function does, at one event of the interpreter after another.
"""

from __future__ import annotations

import contextlib
import sys
from functools import partial
from types import FrameType
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

from flowmaestro.testing.conformance.check import (
    AT_ONCE,
    SIGNALS,
    CheckFailed,
    check,
    expect,
    quiet_finalizers,
)
from flowmaestro.testing.conformance.exchange import LIMIT, ask, whole
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro_core.http.messages import Request, Response, TransportFailure
from flowmaestro_transports.contract import AsyncTransport

_WITHIN = 5 * AT_ONCE
"""Seconds that two calls may take."""

_WHY = "Ctrl-C in a notebook would leave a client that hangs, or that has a connection less."

Use = Callable[[AsyncTransport, str], Awaitable[Any]]


class _Interrupt(BaseException):
    """What a signal handler raises."""


Place = Tuple[str, int, str]
"""Where a call can be interrupted: a file, a line in it, and an event of the interpreter."""


class _Tracer:
    """Raises at one place, the first time that it is reached; knows the places that were."""

    def __init__(self, place: Optional[Place] = None) -> None:
        self.places: Dict[Place, None] = {}
        self._place = place

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        place = (frame.f_code.co_filename, frame.f_lineno, event)
        if place == self._place:
            self._place = None
            raise _Interrupt
        self.places[place] = None
        return self


@check(SIGNALS, why=_WHY)
async def an_interrupted_call_loses_nothing(runner: Runner) -> None:
    """A call that an exception interrupts, wherever it is, leaves the transport usable."""
    await _expect_repaired(runner, _call)


@check(SIGNALS, why=_WHY)
async def an_interrupted_stream_loses_nothing(runner: Runner) -> None:
    """A stream that an exception interrupts, wherever it is, leaves the transport usable."""
    await _expect_repaired(runner, _stream)


async def _call(transport: AsyncTransport, url: str) -> None:
    await transport.send(ask(url, method="POST", body=b"interrupted"), LIMIT)


async def _stream(transport: AsyncTransport, url: str) -> None:
    body = await transport.open(ask(url, method="POST", body=b"interrupted"), LIMIT)
    try:
        await whole(body)
    finally:
        await body.close()


async def _expect_repaired(runner: Runner, use: Use) -> None:
    for fields in ({}, {"Connection": "close"}):  # on a kept connection, and on a new one

        def respond(request: Request, fields: Dict[str, str] = fields) -> Response:
            return Response(200, fields, request.body)

        with quiet_finalizers():
            await _expect_repaired_at(runner, use, runner.site(respond))


async def _expect_repaired_at(runner: Runner, use: Use, url: str) -> None:
    transport = runner.narrow_transport()

    async def traced(tracer: _Tracer) -> None:
        sys.settrace(tracer)
        try:
            await use(transport, url)
        finally:
            sys.settrace(None)

    async def at_each_place() -> None:
        await use(transport, url)  # what is loaded at the first use is no part of it
        calm = _Tracer()
        await traced(calm)
        for place in calm.places:
            seen.append(place)
            with contextlib.suppress(_Interrupt, TransportFailure):
                await traced(_Tracer(place))
            body = str(place).encode()
            response = await transport.send(ask(url, method="POST", body=body), LIMIT / 2)
            expect(response.body == body, f"the next call got {response.body!r}")

    def progressed(tried: int) -> bool:
        return job.done or len(seen) > tried

    seen: List[Place] = []
    job = runner.start(at_each_place)
    try:
        while not job.done:
            on = await runner.until(partial(progressed, len(seen)), _WITHIN)
            expect(on, "the call, or the next one, hangs")
        await job.outcome()
    except (CheckFailed, TransportFailure) as error:
        file, line, event = seen[-1] if seen else ("the first call", 0, "call")
        raise CheckFailed(f"after an interrupt in {file}:{line} ({event}): {error}") from error
