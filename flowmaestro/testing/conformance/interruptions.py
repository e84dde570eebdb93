"""Checks of exceptions that a signal handler raises between any two steps of a sync call.

Examples are Ctrl-C, a test's time limit, and the soft limit of a task queue. Here a trace function
raises them, each time at another place of the call: at a sample of its places, or at all of them,
with `FLOWMAESTRO_INTERRUPTS=10000` in the environment or for a check in `known_failures`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from functools import partial
from types import CodeType, FrameType
from typing import Any, Awaitable, Callable, Dict, List, Tuple

from flowmaestro.testing.conformance.check import check
from flowmaestro.testing.conformance.expectations import (
    HOSTILE,
    LIMIT,
    SIGNALS,
    CheckFailed,
    ask,
    expect,
    quiet_finalizers,
    read_out,
)
from flowmaestro.testing.conformance.runner import Runner
from flowmaestro_core.http.messages import Request, Response, TransportFailure
from flowmaestro_transports.contract import AsyncTransport

_PLACES = int(os.environ.get("FLOWMAESTRO_INTERRUPTS", "50"))
"""The most places of a call in a sample of them, evenly spread. 10000 means all."""

_WHY = "Ctrl-C in a notebook would leave a client that hangs or has lost a connection."

Use = Callable[[AsyncTransport, str], Awaitable[Any]]


class _Interrupt(BaseException):
    """The exception of the trace function, in place of one of a signal handler."""


Place = Tuple[CodeType, int, str]
"""A place in a call: the code of a function, a line of it, and an event of the interpreter."""


def _noting(places: Dict[Place, None]) -> Any:
    """Return a trace function that adds each place that is reached to `places`."""

    def trace(frame: FrameType, event: str, _: object) -> Any:
        places[frame.f_code, frame.f_lineno, event] = None
        return trace

    return trace


def _raising_at(place: Place) -> Any:
    """Return a trace function that raises at one place, the first time that it is reached."""
    over = False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal over
        if over or frame.f_code is not place[0]:
            return None  # Lines of other functions are not traced.
        if (frame.f_lineno, event) == place[1:]:
            over = True
            raise _Interrupt
        return trace

    return trace


def _release_conditions() -> None:
    """Release the conditions that threads still wait to enter after a hang was found.

    The threads themselves are daemons. But a lock that an interrupted call has left locked also
    blocks finalizers, which `atexit` runs for the pools of urllib3. The program would never end.
    """
    for frame in sys._current_frames().values():  # pyright: ignore[reportPrivateUsage]
        if frame.f_code is threading.Condition.__enter__.__code__:
            with contextlib.suppress(RuntimeError):
                frame.f_locals["self"].release()


@check(SIGNALS, HOSTILE, why=_WHY)
async def an_interrupted_call_loses_nothing(runner: Runner) -> None:
    """An exception that interrupts a call at any point leaves the transport usable."""
    await _expect_repaired(runner, _call)


@check(SIGNALS, HOSTILE, why=_WHY)
async def an_interrupted_stream_loses_nothing(runner: Runner) -> None:
    """An exception that interrupts a stream at any point leaves the transport usable."""
    await _expect_repaired(runner, _stream)


async def _call(transport: AsyncTransport, url: str) -> None:
    await transport.send(ask(url, method="POST", body=b"interrupted"), LIMIT)


async def _stream(transport: AsyncTransport, url: str) -> None:
    await read_out(transport, ask(url, method="POST", body=b"interrupted"))


async def _expect_repaired(runner: Runner, use: Use) -> None:
    for fields in ({}, {"Connection": "close"}):  # On a reused connection, and on a new one.

        def respond(request: Request, fields: Dict[str, str] = fields) -> Response:
            return Response(200, fields, request.body)

        with quiet_finalizers():
            await _expect_repaired_at(runner, use, runner.site(respond))


async def _expect_repaired_at(runner: Runner, use: Use, url: str) -> None:
    transport = runner.narrow_transport()
    limit = 3 * runner.limit

    async def traced(tracer: Any) -> None:
        sys.settrace(tracer)
        try:
            await use(transport, url)
        finally:
            sys.settrace(None)

    async def at_each_place() -> None:
        await use(transport, url)  # Modules that the first call imports must not be traced.
        places: Dict[Place, None] = {}
        await traced(_noting(places))
        step = 1 if runner.exhaustive else 1 + len(places) // _PLACES
        for place in list(places)[::step]:
            if given_up.is_set():
                return
            seen.append(place)
            with contextlib.suppress(_Interrupt, TransportFailure):
                await traced(_raising_at(place))
            body = str(place).encode()
            response = await transport.send(ask(url, method="POST", body=body), limit)
            expect(response.body == body, f"the next call got {response.body!r}")

    def progressed(tried: int) -> bool:
        return job.done or len(seen) > tried

    seen: List[Place] = []
    given_up = threading.Event()
    job = runner.start(at_each_place)
    try:
        while not job.done:
            on = await runner.until(partial(progressed, len(seen)), 2 * limit)
            expect(on, "the call, or the next one, hangs")
        await job.outcome()
    except (CheckFailed, TransportFailure) as error:
        given_up.set()
        if not job.done:
            _release_conditions()
        if not seen:
            raise
        code, line, event = seen[-1]
        where = f"{code.co_filename}:{line} ({event})"
        raise CheckFailed(f"after an interrupt in {where}: {error}") from error
