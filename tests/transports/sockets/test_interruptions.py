"""An exception from a signal handler, at any point of a call, loses nothing and blocks nothing."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, Callable, Iterator, Optional

import pytest

import flowmaestro_transports
from flowmaestro import FlowMaestroClient
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
    """Raises `Interrupted` at the `number`-th traced moment in the transports' own frames.

    Of these frames, only those count whose code is `within`.
    """

    def __init__(self, number: int, within: Callable[[CodeType], bool] = lambda code: True) -> None:
        self.left = number
        self.within = within

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> Optional[Interruption]:
        code = frame.f_code
        if not code.co_filename.startswith(OURS) or code.co_name == "__del__":
            return None
        if not self.within(code):
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "call", "return"):
            self.left -= 1
            if not self.left:
                raise Interrupted
        return self


def call(transport: Any, url: str) -> None:
    assert transport.send(Request("POST", url, {}, b"x"), 60.0).body == b"x"


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

    def in_init(code: CodeType) -> bool:
        return code.co_name == "__init__" and code.co_filename.endswith("body.py")

    number, reached = 0, True
    with scripted.ScriptedServer(scripted.echo) as server:
        transport = SocketTransport()
        while reached:
            number += 1
            tracer = Interruption(number, in_init)
            reached = interrupt(number, stream, transport, server.url, tracer)
            (pool,) = transport._pools.values()
            assert not pool.bodies, number
        transport.close()
    assert number > 20


def test_no_bytes_of_an_interrupted_read_come_to_a_later_call(scripted: Any) -> None:
    """At any bytecode of the read. Its body is closed afterwards, as the drivers do it."""

    def in_body(code: CodeType) -> bool:
        return code.co_filename.endswith("body.py")

    def handler(peer: Any) -> None:
        with contextlib.suppress(OSError):
            while request := peer.read_request():
                if request.method == "POST":
                    peer.send(scripted.reply(b"x"))
                    continue
                peer.send(scripted.reply(headers=[scripted.CHUNKED], length=False))
                for piece in (b"first", b"second", b""):
                    peer.send(scripted.chunk(piece))

    number, reached = 0, True
    with scripted.ScriptedServer(handler) as server:
        transport = SocketTransport(max_connections=1)
        while reached:
            number += 1
            body = transport.open(Request("GET", server.url, {}), 60.0)

            def read(_transport: Any, _url: str, body: Any = body) -> None:
                while body.read(60.0):
                    pass

            reached = interrupt(number, read, transport, server.url, Interruption(number, in_body))
            body.close()
            call(transport, server.url)
            (pool,) = transport._pools.values()
            assert not pool.bodies
            assert len(pool.idle) == 1
        transport.close()
    assert number > 50


class Alarm:
    """One signal that comes while the main thread waits in `poll`, once `go` is set.

    Its handler raises `error`. `alarm` takes the place of `select.poll`.
    """

    def __init__(self, error: OSError) -> None:
        self.error = error
        self.go = threading.Event()
        self._poll: Any = select.poll

    def raise_error(self, _number: int, _frame: Any) -> None:
        raise self.error

    def __call__(self) -> Any:
        polling = self._poll()

        def poll(milliseconds: int) -> Any:
            ready: Any = []
            while not ready and not self.go.is_set():
                ready = polling.poll(min(milliseconds, 10))
            if not ready:
                self.go.clear()
                signal.raise_signal(signal.SIGALRM)
            return ready

        return SimpleNamespace(register=polling.register, poll=poll)


@pytest.fixture(params=[TimeoutError, socket.gaierror])
def alarm(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alarm]:
    alarm = Alarm(request.param("a limit of the program's own"))
    before = signal.signal(signal.SIGALRM, alarm.raise_error)
    monkeypatch.setattr(select, "poll", alarm)
    yield alarm
    signal.signal(signal.SIGALRM, before)


def wait_closed(peer: Any) -> None:
    with contextlib.suppress(OSError):  # The client ends TLS without a `close_notify`.
        peer.wait_closed()


needs_poll = pytest.mark.skipif(
    not (hasattr(signal, "SIGALRM") and hasattr(select, "poll")),
    reason="signals interrupt no wait here",
)


@needs_poll
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("reads", [False, True], ids=["call", "read"])
def test_os_error_of_a_signal_handler_is_no_failure_of_the_network(
    scripted: Any, server_tls: Any, ca_file: str, alarm: Alarm, encrypted: bool, reads: bool
) -> None:
    def handler(peer: Any) -> None:
        peer.read_request()
        if reads:
            peer.send(scripted.HEAD_CHUNKED)
        else:
            alarm.go.set()
        wait_closed(peer)

    tls = server_tls if encrypted else None
    with (
        scripted.ScriptedServer(handler, tls=tls) as server,
        contextlib.closing(SocketTransport(verify=ca_file)) as transport,
    ):
        if reads:
            body = transport.open(Request("GET", server.url, {}), 60.0)
            alarm.go.set()
            with pytest.raises(type(alarm.error)) as caught:
                body.read(60.0)
            with pytest.raises(TransportFailure, match="closed by this side"):
                body.read(60.0)
        else:
            with pytest.raises(type(alarm.error)) as caught:
                call(transport, server.url)
    assert caught.value is alarm.error


@needs_poll
def test_start_is_not_repeated_after_an_os_error_of_a_signal_handler(
    scripted: Any, alarm: Alarm
) -> None:
    """During the TLS handshake, which the server does not answer."""

    def handler(peer: Any) -> None:
        assert peer.sock.recv(1)
        alarm.go.set()
        wait_closed(peer)

    with scripted.ScriptedServer(handler) as server:
        url = server.url.replace("http:", "https:")
        client = FlowMaestroClient("fm_live_x", base_url=url)
        with client, pytest.raises(type(alarm.error)) as caught:
            client.workflows.execute("wf_123")
    assert caught.value is alarm.error
    assert server.connections == 1
