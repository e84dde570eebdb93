"""An exception from a signal handler, at any point of a call, loses nothing and blocks nothing."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Optional

import pytest

import flowmaestro_transports
from flowmaestro_core.http.messages import Request, TransportFailure
from flowmaestro_transports import SocketTransport

# A socket that an interruption leaves to the collector is closed by it, with a warning.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OURS = str(Path(flowmaestro_transports.__file__).parent)
SOAK = int(os.environ.get("FLOWMAESTRO_INTERRUPTS", "100"))
"""How many signals interrupt calls; `FLOWMAESTRO_INTERRUPTS=10000` for a long soak."""
STEP = 1 if SOAK >= 10_000 else 53
"""Every how many traced moments a call is interrupted."""


class Interrupted(BaseException):
    """What a signal handler raises."""


class Interruption:
    """Raises `Interrupted` at the `number`-th traced moment in the transports' own frames."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> Optional[Interruption]:
        if not frame.f_code.co_filename.startswith(OURS) or frame.f_code.co_name == "__del__":
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "call", "return"):
            self.left -= 1
            if not self.left:
                raise Interrupted
        return self


def call(transport: Any, url: str) -> None:
    assert transport.send(Request("POST", url, {}, b"x"), 5.0).body == b"x"


def stream(transport: Any, url: str) -> None:
    body = transport.open(Request("POST", url, {}, b"x"), 5.0)
    try:
        while body.read(5.0):
            pass
    finally:
        body.close()


def interrupt(
    number: int,
    use: Callable[[Any, str], None],
    transport: Any,
    url: str,
    tracer: Optional[Interruption] = None,
) -> bool:
    """Return whether the moment was reached: an interruption came out.

    In a thread of its own: on Python 3.13, an exception of a trace function may leave behind the
    one that was handled, as the context of all that are raised later in the thread.
    """
    tracer = tracer or Interruption(number)

    def traced() -> None:
        sys.settrace(tracer)
        try:
            use(transport, url)
        except Interrupted:
            pass
        finally:
            sys.settrace(None)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(traced).result()
    return tracer.left <= 0


@pytest.mark.parametrize("use", [call, stream])
@pytest.mark.parametrize("warm", [True, False], ids=["kept connection", "new connection"])
def test_an_exception_at_any_bytecode_loses_no_resource(
    scripted: Any, use: Any, warm: bool
) -> None:
    """With one slot, a lost one stops everybody: the next call would run out of time."""
    reached, number = True, 0
    with scripted.ScriptedServer(scripted.echo) as server:
        transport = SocketTransport(max_connections=1)
        while reached:
            number += STEP
            if warm:
                call(transport, server.url)
            else:
                transport.close()
                transport = SocketTransport(max_connections=1)
            reached = interrupt(number, use, transport, server.url)
            call(transport, server.url)
        transport.close()
    assert number > 300


def test_while_others_wait_for_the_slot(scripted: Any) -> None:
    with scripted.ScriptedServer(scripted.echo) as server:
        transport = SocketTransport(max_connections=1)
        failures = []

        def others() -> None:
            for _ in range(20):
                try:
                    call(transport, server.url)
                except TransportFailure as failure:
                    failures.append(failure)

        threads = [threading.Thread(target=others) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(7, 700, 31):
            interrupt(number, call, transport, server.url)
        for thread in threads:
            thread.join(60)
        assert not failures
        call(transport, server.url)
        transport.close()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers with signals here")
def test_a_soak_of_signals(scripted: Any) -> None:
    """SIGALRM at random moments, as Ctrl-C, pytest-timeout and Celery's soft limits do it."""
    rng = random.Random(1)
    interrupted = 0

    def handler(_number: int, _frame: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with scripted.ScriptedServer(scripted.echo) as server:
            transport = SocketTransport(max_connections=1)
            while interrupted < SOAK:
                try:
                    first = rng.uniform(0.00005, 0.002)
                    # Again later, as one that comes into a `__del__` is swallowed there.
                    signal.setitimer(signal.ITIMER_REAL, first, 0.05)
                    while True:
                        rng.choice((call, stream))(transport, server.url)
                except Interrupted:
                    interrupted += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
            call(transport, server.url)
            transport.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_body_that_is_interrupted_while_it_is_made_leaves_no_entry_in_the_pool(
    scripted: Any,
) -> None:
    """At every bytecode of its `__init__`."""

    class InInit(Interruption):
        def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
            code = frame.f_code
            in_init = code.co_name == "__init__" and code.co_filename.endswith("body.py")
            return super().__call__(frame, event, arg) if in_init else None

    number, reached = 0, True
    with scripted.ScriptedServer(scripted.echo) as server:
        transport = SocketTransport()
        while reached:
            number += 1
            tracer = InInit(number)
            reached = interrupt(number, stream, transport, server.url, tracer)
            (pool,) = transport._pools.values()
            assert not pool.bodies, number
        transport.close()
    assert number > 20
