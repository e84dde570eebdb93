"""Time limits of the phases of an attempt, on every transport.

Those of the whole attempt are the conformance kit's, but where a proxy, TLS or pauses matter.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Iterator

import pytest

from flowmaestro_core.http.messages import Headers, Phase, Request, TransportFailure
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports import SocketTransport
from tests.harness.patience import given_time
from tests.harness.runners import Runner, fails, full_listener, get, post

SOON = 0.2
"""Seconds of a limit that runs out in a test."""
LATE = 120.0
"""Seconds of one that does not, and more than any test here may take."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture(autouse=True)
def no_limit_is_forgotten() -> Iterator[None]:
    """Whichever limit was to run out, the one of LATE seconds did not do its work."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < LATE


def saying(data: bytes, *, pause: float = 0.0, after: bytes = b"") -> Any:
    """A handler that says `data` byte by byte, then `after`, until the client has had enough."""

    def handler(peer: Any) -> None:
        peer.read_request()
        with contextlib.suppress(OSError):
            for byte in data if pause else [data]:
                peer.send(bytes([byte]) if pause else data)
                time.sleep(pause)
            peer.send(after)
            peer.wait_closed()

    return handler


class TestConnecting:
    limit = Timeout(LATE, connect=SOON)

    def test_connect_timeout_is_not_sent(self, runner: Runner) -> None:
        with full_listener() as url, runner() as transport:
            for operation in (transport.send, transport.open):
                with fails(Phase.NOT_SENT, timed_out=True):
                    operation(Request("POST", url, Headers(), b"x"), self.limit)

    def test_a_handshake_without_an_end(self, runner: Runner, scripted: Any) -> None:
        runner.needs("a-failed-handshake")
        with (
            scripted.ScriptedServer(scripted.Peer.wait_closed) as server,
            runner() as transport,
            fails(Phase.NOT_SENT, timed_out=True),
        ):
            secure = server.url.replace("http:", "https:")
            transport.send(Request("POST", f"{secure}/", Headers(), b"x"), self.limit)

    @pytest.mark.parametrize("limit", [limit, SOON], ids=["connect", "total"])
    def test_a_tunnel_that_is_dug_slowly(self, runner: Runner, scripted: Any, limit: float) -> None:
        runner.needs("a-head-that-dribbles")
        handler = saying(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100, pause=0.02)
        with (
            scripted.ScriptedServer(handler) as server,
            runner(proxy=server.url) as transport,
            fails(Phase.NOT_SENT, timed_out=True),
        ):
            transport.send(Request("POST", "https://o.example/", Headers(), b"x"), limit)

    def test_waiting_for_a_free_connection_counts_as_connecting(
        self, runner: Runner, scripted: Any
    ) -> None:
        taken, let_go = threading.Event(), threading.Event()

        def handler(peer: Any) -> None:
            peer.read_request()
            taken.set()
            let_go.wait(LATE)
            peer.send(scripted.reply())

        def take() -> None:
            transport.send(get(server), LATE)

        with scripted.ScriptedServer(handler) as server, runner(max_connections=1) as transport:
            first = threading.Thread(target=take)
            first.start()
            assert taken.wait(60)
            with fails(Phase.NOT_SENT, timed_out=True):
                transport.send(post(server), self.limit)
            let_go.set()
            first.join()


class TestTheHead:
    @staticmethod
    def with_limit(runner: Runner, attempt: Callable[[float], None]) -> None:
        """Make `attempt` with a limit for the head that runs out soon."""
        if runner.name == "aiohttp":
            # aiohttp counts a limit for the head from the end of the limit for connecting. So it
            # gets a limit for the whole attempt. Connecting may use up three quarters of that,
            # which a busy machine exceeds.
            given_time(lambda times: attempt(SOON * times))
        else:
            attempt(Timeout(LATE, connect=LATE, head=SOON, read=LATE))

    @pytest.mark.parametrize("kept", [False, True], ids=["new", "kept"])
    def test_missing_head_times_out(self, runner: Runner, scripted: Any, kept: bool) -> None:
        def handler(peer: Any) -> None:
            while True:
                request = peer.read_request()
                if request is None:
                    return
                if request.target == "/":
                    peer.send(scripted.reply())

        limit_that_ended = "" if runner.name in ("requests", "aiohttp") else f"{SOON} s"
        with scripted.ScriptedServer(handler) as server, runner() as transport:
            for operation in (transport.send, transport.open):

                def attempt(limit: float, operation: Any = operation) -> None:
                    if kept:
                        transport.send(get(server))
                    with fails(Phase.MAYBE_PROCESSED, limit_that_ended, timed_out=True):
                        operation(post(server), limit)

                self.with_limit(runner, attempt)

    def test_dribbling_head_times_out(self, runner: Runner, scripted: Any) -> None:
        runner.needs("a-head-that-dribbles")
        handler = saying(HEAD[:-2] + b"X-A: b\r\n" * 100, pause=0.02)
        with scripted.ScriptedServer(handler) as server, runner() as transport:
            for operation in (transport.send, transport.open):

                def attempt(limit: float, operation: Any = operation) -> None:
                    with pytest.raises(TransportFailure) as caught:
                        operation(post(server), limit)
                    # h11 knows that a reply has begun; either way the server may have acted
                    assert caught.value.phase in {Phase.MAYBE_PROCESSED, Phase.REPLY_BROKEN}
                    assert caught.value.timed_out

                self.with_limit(runner, attempt)


def test_a_body_that_falls_silent(runner: Runner, scripted: Any) -> None:
    with scripted.ScriptedServer(saying(HEAD + b"he")) as server, runner() as transport:
        for _ in range(2):
            with fails(Phase.REPLY_BROKEN, timed_out=True):
                transport.send(get(server), Timeout(LATE, read=SOON))


def test_a_body_that_dribbles(runner: Runner, scripted: Any) -> None:
    """No silence is long; the whole is."""

    def handler(peer: Any) -> None:
        peer.read_request()
        with contextlib.suppress(OSError):  # An attempt of too little time has ended already.
            peer.send(HEAD.replace(b"5", b"500"))
            for _ in range(499):
                peer.send(b"x")
                time.sleep(0.02)

    def attempt(times: float) -> None:
        with fails(Phase.REPLY_BROKEN, timed_out=True):
            transport.send(get(server), Timeout(0.4 * times, head=LATE, read=LATE))

    with scripted.ScriptedServer(handler) as server, runner() as transport:
        given_time(attempt)  # for a busy machine may need all of it before the body


def test_phases_follow_one_another(runner: Runner, scripted: Any) -> None:
    """Each limit is for its own phase; together they may take longer than each."""

    limit = 0.4

    def handler(peer: Any) -> None:
        peer.read_request()
        pause = limit * times / 32
        time.sleep(pause)
        peer.send(HEAD.replace(b"5", b"40"))
        for byte in b"hello" * 8:
            time.sleep(pause)
            with contextlib.suppress(OSError):
                peer.send(bytes([byte]))

    def attempt(longer: float) -> None:
        nonlocal times
        times = longer
        limits = Timeout(LATE, connect=LATE, head=limit * times, read=limit * times)
        assert transport.send(get(server), limits).body == b"hello" * 8

    times = 1.0
    with scripted.ScriptedServer(handler) as server, runner() as transport:
        given_time(attempt)


def test_a_stream_has_patience_of_its_own(runner: Runner, scripted: Any) -> None:
    runner.needs("quiet-body")
    limit = Timeout(LATE, connect=5, head=5, read=0.05)
    with scripted.ScriptedServer(saying(HEAD, after=b"hel")) as server, runner() as transport:
        body = transport.open(get(server), limit)
        text = b""
        while text != b"hel":
            text += body.read(5.0) or b""
        assert body.read(0.2) is None
        assert body.read(0.2) is None
        body.close()


def test_a_clock_that_stands_still(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may stop it, as freezegun does; a limit still runs out."""

    def attempt(times: float) -> None:
        with fails(Phase.REPLY_BROKEN, timed_out=True):
            transport.send(get(server), SOON * times)

    with scripted.ScriptedServer(saying(HEAD)) as server:
        transport, now = SocketTransport(), time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)
        given_time(attempt)  # for a busy server may need all of it before the head
