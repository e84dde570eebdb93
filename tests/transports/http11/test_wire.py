"""TLS on a wire in memory: whatever the outer layer takes and gives at a time, nothing is lost."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowmaestro_transports.http11.tls import tls_when_needed
from flowmaestro_transports.http11.tls_wire import TlsWire
from flowmaestro_transports.http11.wire import CLEAN_END, IOWait, Wire, WireEnd

SCHEDULE = st.lists(st.sampled_from([0, 0, 1, 5, 100, 3000, 20_000]), min_size=1, max_size=40)


class Outer(Wire):
    """The outer layer: takes and gives as many bytes at a time as `steps` say, 0 for not now."""

    def __init__(self, steps: List[int]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.there = bytearray()
        self.here = bytearray()
        self.ended_by_peer = False
        self.end: Optional[WireEnd] = None
        self.closed = False
        self._steps = [*steps, 1000]
        self._turn = 0

    def _step(self) -> int:
        self._turn += 1
        return self._steps[self._turn % len(self._steps)]

    def send(self, data: memoryview) -> int:
        count = self._step()
        self.there += data[:count]
        return min(count, len(data))

    def receive(self) -> Optional[bytes]:
        count = self._step()
        if not count or not (self.here or self.ended_by_peer):
            return None
        data = bytes(self.here[:count])
        del self.here[:count]
        return data

    def close(self) -> None:
        self.closed = True


class Server:
    """The other end: scrubber in TLS what it gets, and keeps a copy."""

    def __init__(self, outer: Outer, context: ssl.SSLContext) -> None:
        self.seen = bytearray()
        self._outer = outer
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=True)
        self._ready = False

    def step(self) -> None:
        self._arrived.write(bytes(self._outer.there))
        self._outer.there.clear()
        with contextlib.suppress(ssl.SSLWantReadError):
            if not self._ready:
                self._tls.do_handshake()
                self._ready = True
            while True:
                data = self._tls.read(65536)
                self.seen += data
                self._tls.write(data)
        self._outer.here += self._leaving.read()

    def say_goodbye(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._outer.here += self._leaving.read()


@pytest.fixture(scope="module")
def contexts(authority: Any) -> Any:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("inner.example", "fe80::1").configure_cert(server)
    with authority.cert_pem.tempfile() as path:
        return tls_when_needed(path)(), server


def shake_hands(tls: TlsWire, server: Server) -> None:
    for wait in tls.handshake():
        assert isinstance(wait, IOWait)
        server.step()
    server.step()


def greeted(contexts: Any, outer: Outer) -> Tuple[TlsWire, Server]:
    """TLS over `outer`, and its server, which has sent "hello" back."""
    client, server_side = contexts
    server = Server(outer, server_side)
    tls = TlsWire(outer, client, "inner.example")
    shake_hands(tls, server)
    assert tls.send(memoryview(b"hello")) == 5
    server.step()
    return tls, server


def until_done(call: Any, server: Server) -> Any:
    """What the call gives once it can do something."""
    for _ in range(100_000):
        done = call()
        if done is not None and done != 0:
            return done
        server.step()
    raise AssertionError("no end")


@settings(max_examples=40)
@given(steps=SCHEDULE, sizes=st.lists(st.integers(1, 40_000), max_size=4), goodbye=st.booleans())
def test_tls_passes_all_bytes_however_they_are_cut(
    contexts: Any, steps: List[int], sizes: List[int], goodbye: bool
) -> None:
    client, server_side = contexts
    outer = Outer(steps)
    server = Server(outer, server_side)
    tls = TlsWire(outer, client, "inner.example")
    shake_hands(tls, server)
    sent = b"".join(bytes([n % 256]) * size for n, size in enumerate(sizes))
    rest = memoryview(sent)
    while rest:
        count = until_done(lambda left=rest: tls.send(left), server)
        assert 0 < count <= len(rest)
        rest = rest[count:]
        server.step()
    assert server.seen == sent

    back = b""
    while len(back) < len(sent):
        back += until_done(tls.receive, server)
    assert back == sent
    assert tls.end is None

    if goodbye:
        server.say_goodbye()
    outer.ended_by_peer = True
    if goodbye:
        assert until_done(tls.receive, server) == b""
        assert tls.end is CLEAN_END
    else:
        with pytest.raises(ssl.SSLError):
            until_done(tls.receive, server)
    tls.close()
    assert outer.closed


@pytest.mark.parametrize("ends", [False, True])
def test_an_idle_connection_with_bytes_or_an_end_is_not_silent(contexts: Any, ends: bool) -> None:
    """Its next request would get another response, or none."""
    outer = Outer([100_000])
    tls, _ = greeted(contexts, outer)
    assert tls.receive() == b"hello"
    assert tls.is_silent()
    outer.ended_by_peer = ends
    outer.here += b"" if ends else b"\x17"
    assert not tls.is_silent()


def test_a_goodbye_behind_the_last_bytes_is_told_with_them(contexts: Any) -> None:
    tls, server = greeted(contexts, Outer([100_000]))
    server.say_goodbye()
    assert tls.receive() == b"hello"
    assert tls.end is CLEAN_END
    assert tls.receive() == b""


def test_the_reason_of_a_refusal_outlives_its_alert(contexts: Any) -> None:
    """A peer that has gone already cannot be told."""
    client, server_side = contexts

    class Reset(Outer):
        def send(self, data: memoryview) -> int:
            if self.there is not began:
                raise ConnectionResetError
            return super().send(data)

    outer = Reset([100_000])
    began = outer.there
    steps = TlsWire(outer, client, "other.example").handshake()
    next(steps)
    Server(outer, server_side).step()
    outer.there = bytearray()
    with pytest.raises(ssl.SSLCertVerificationError):
        next(steps)


@pytest.mark.parametrize("host", ["inner.example.", "INNER.example", "fe80::1%eth0"])
def test_a_name_is_checked_as_certificates_have_it(contexts: Any, host: str) -> None:
    client, server_side = contexts
    outer = Outer([100_000])
    shake_hands(TlsWire(outer, client, host), Server(outer, server_side))


def test_a_name_is_checked_whole(contexts: Any) -> None:
    client, server_side = contexts
    outer = Outer([100_000])
    with pytest.raises(ssl.SSLError):
        shake_hands(TlsWire(outer, client, "inner.example%.other"), Server(outer, server_side))


def test_a_changed_record_behind_good_ones_is_told_with_them(contexts: Any) -> None:
    outer = Outer([100_000])
    tls, _ = greeted(contexts, outer)
    outer.here += b"\x17\x03\x03\x00\x20" + bytes(32)
    assert tls.receive() == b"hello"
    assert tls.end is not None
    assert tls.end.failure is not None
    with pytest.raises(ssl.SSLError):
        tls.receive()


def test_records_are_told_although_the_rest_of_the_request_cannot_be_sent(contexts: Any) -> None:
    """The server has answered early, and reset the connection."""
    is_reset = False

    class Reset(Outer):
        def send(self, data: memoryview) -> int:
            if is_reset:
                raise ConnectionResetError
            return super().send(data)

    outer = Reset([100_000])
    tls, _ = greeted(contexts, outer)
    outer._steps = [0]
    assert tls.send(memoryview(b"the rest")) == 0
    outer._steps, is_reset = [100_000], True
    assert tls.receive() == b"hello"
    with pytest.raises(ConnectionResetError):
        tls.send(memoryview(b"the rest"))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 100])
def test_records_are_followed_however_their_bytes_are_cut(contexts: Any, size: int) -> None:
    outer = Outer([100_000])
    tls, server = greeted(contexts, outer)
    assert tls.receive() == b"hello"
    tls.send(memoryview(b"one"))
    server.step()
    first = len(outer.here)
    until_done(lambda: tls.send(memoryview(bytes(10_000))), server)
    server.step()
    data = bytes(outer.here)
    outer.here.clear()
    received = b""
    for at in range(0, len(data), size):
        assert tls.is_silent() == (at in (0, first))
        outer.here += data[at : at + size]
        received += tls.receive() or b""
    assert tls.is_silent()
    assert received == b"one" + bytes(10_000)
