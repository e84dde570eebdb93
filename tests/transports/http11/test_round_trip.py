"""A request and its reply on a connection that does what a test says."""

from __future__ import annotations

import gc
import gzip
import socket
import weakref
from typing import Callable, List, Optional, Union

import pytest

from flowmaestro_core.http.messages import Phase, Request
from flowmaestro_core.timeouts import Timeout
from flowmaestro_transports.http11.content_coding import MAX_PIECE
from flowmaestro_transports.http11.exchange import Exchange
from flowmaestro_transports.http11.proxies import Proxies
from flowmaestro_transports.http11.round_trip import Connection, RoundTrip, exchange_heads
from flowmaestro_transports.http11.routes import Routes
from flowmaestro_transports.http11.wire import TURN, Readiness, Wire

RESET = ConnectionResetError("reset")
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class ScriptedWire(Wire):
    """Sends and receives as its lists say, one item a call."""

    def __init__(
        self, sent: List[Union[int, OSError]], received: List[Union[bytes, OSError, None]]
    ) -> None:
        super().__init__(socket.socket())
        self._sent, self._received = sent, received
        self.sock.close()

    def send(self, data: memoryview) -> int:
        count = self._sent.pop(0)
        if isinstance(count, OSError):
            raise count
        return count

    def receive(self) -> Optional[bytes]:
        data = self._received.pop(0)
        if isinstance(data, OSError):
            raise data
        return data


def begin(
    timeout: float = 60.0, clock: Callable[[], float] = lambda: 0.0, method: str = "POST"
) -> RoundTrip:
    route, target = Routes(Proxies(trust_env=False)).find("http://api.test/")
    body = bytes(1000) if method == "POST" else b""
    exchange = Exchange(route.writer, Request(method, "http://api.test/", {}, body), target)
    return RoundTrip(route, exchange, timeout, clock)


def early_body(wire: Wire, exchange: Exchange) -> List[bytes]:
    """Carry out `exchange_heads`, and return its result."""
    steps = exchange_heads(wire, exchange)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return list(end.value)


def test_a_reply_that_comes_before_the_request_is_out_spoils_the_connection() -> None:
    exchange = begin().exchange
    exchange.bytes_sent(3)
    exchange.bytes_received(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
    assert exchange.finished
    assert not exchange.reusable


def test_a_whole_reply_counts_though_the_server_hangs_up_on_the_request() -> None:
    exchange = begin().exchange
    wire = ScriptedWire([10, 0, RESET], [REPLY])
    assert early_body(wire, exchange) == [b"ok"]
    assert exchange.take() == b""
    assert not exchange.reusable


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ([10, 0, RESET], [REPLY[:-1], RESET]),
        ([10, 0, BrokenPipeError()], [REPLY[:-1], RESET]),
        ([10, 0, 10, RESET], [REPLY[:-1], b""]),
    ],
)
def test_error_after_part_of_a_response_keeps_no_frame_with_it(
    sent: List[Union[int, OSError]], received: List[Union[bytes, OSError, None]]
) -> None:
    exchange = begin().exchange
    with pytest.raises(ConnectionResetError) as caught:
        list(exchange_heads(ScriptedWire([*sent], [*received]), exchange))
    assert exchange.phase is Phase.REPLY_BROKEN
    assert caught.value.__context__ is None


def test_a_failed_send_leaves_no_cycle_with_the_request() -> None:
    """Its body and key would stay in memory until the next garbage collection."""

    def fail() -> weakref.ref[Wire]:
        wire = ScriptedWire([ConnectionResetError()], [b""])
        try:
            list(exchange_heads(wire, begin().exchange))
        except ConnectionResetError:
            return weakref.ref(wire)  # The frame that refers to it refers to the exchange, too.
        raise AssertionError

    gc.disable()
    try:
        assert fail()() is None
    finally:
        gc.enable()


def test_response_that_decompresses_to_10_mib_is_read_with_a_turn_for_each_piece() -> None:
    size = 10 * 1024 * 1024
    body = gzip.compress(b"\n" * size)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    trip = begin(method="GET")
    trip.connection = Connection(ScriptedWire([1000], [head, body]), trip.route.key)
    turns = [wait for wait in trip.read_response() if wait is TURN]
    assert len(turns) >= size // MAX_PIECE - 1


def test_complete_response_leaves_only_the_wait_to_send() -> None:
    """The server may have shut down its side: the socket would then be readable for ever."""
    exchange = begin().exchange
    wire = ScriptedWire([10, 0, 0, 2000], [REPLY])
    waits = list(exchange_heads(wire, exchange))
    assert [wait.readiness for wait in waits] == [Readiness.EITHER, Readiness.WRITABLE]
    assert exchange.reusable


def test_early_body_is_decompressed_with_a_turn_for_each_piece() -> None:
    exchange = begin().exchange
    body = gzip.compress(bytes(10 * MAX_PIECE))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    waits = list(exchange_heads(ScriptedWire([10, 0, 2000], [head + body]), exchange))
    assert waits.count(TURN) >= 9


@pytest.mark.parametrize(("read", "deadlines"), [(None, [5, 60, 60]), (3, [5, 4, 6])])
def test_limit_of_the_head_ends_with_the_head_while_the_request_is_sent(
    read: Optional[float], deadlines: List[float]
) -> None:
    """The head comes at 1 s, and the request is sent until 5 s."""
    now = 0.0
    trip = begin(Timeout(60, head=5, read=read), lambda: now)
    head, body = REPLY[:-2], REPLY[-2:]
    wire = ScriptedWire([10, 0, 0, 10, 0, 2000], [head, None, body])
    trip.connection = Connection(wire, trip.route.key)
    seen = []
    for at, _ in zip((1.0, 3.0, 5.0, 7.0), trip.read_head()):
        seen.append(trip.deadline.at)
        now = at
    assert seen == deadlines
    assert not trip.exchange.unsent


@pytest.mark.parametrize(("timeout", "patience"), [(60.0, 1.0), (0.5, 0.25)])
def test_complete_response_is_returned_if_the_server_reads_no_more(
    timeout: float, patience: float
) -> None:
    """The server reads 10 more bytes half a `patience` after its response."""
    now = 0.0
    trip = begin(timeout, lambda: now)
    wire = ScriptedWire([10, 0, 0, 10, 0, 0], [REPLY])
    trip.connection = Connection(wire, trip.route.key)
    steps = trip.read_head()
    assert next(steps).readiness is Readiness.EITHER
    assert next(steps) == (Readiness.WRITABLE, (wire.sock,), patience)
    now = patience / 2
    seconds = next(steps).seconds
    assert seconds == min(patience, (timeout - now) / 2)
    now += seconds
    assert now < timeout
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value == [b"ok"]
    assert trip.exchange.finished
    assert not trip.exchange.reusable
