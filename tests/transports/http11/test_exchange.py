"""One exchange as a machine: every order of events, every cut of the bytes, beside h11."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import h11
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flowmaestro_core.http.messages import Headers, Phase, Request
from flowmaestro_transports.http11.exchange import (
    MAX_HEAD,
    Exchange,
    RequestWriter,
)
from flowmaestro_transports.http11.failures import ReplyError
from flowmaestro_transports.http11.round_trip import exchange_heads

HOST = Headers({"Host": "api.test"})
KEY = "fm_live_secret"


def begin(request: Optional[Request] = None, **options: Any) -> Exchange:
    """An exchange whose request has been sent."""
    request = request or Request("GET", "http://api.test/a", {"X-API-Key": KEY})
    exchange = Exchange(RequestWriter(HOST), request, "/a", **options)
    exchange.bytes_sent(len(exchange.unsent))
    return exchange


def read(exchange: Exchange, pieces: List[bytes], *, ended: bool = False) -> Tuple[Any, ...]:
    """What comes of these bytes: status, fields, content, and how it ends."""
    content, end = b"", "open"
    try:
        for piece in pieces:
            exchange.bytes_received(piece)
        if ended:
            exchange.connection_ended()
        while exchange.head is not None:
            taken = exchange.take()
            if not taken:
                end = "open" if taken is None else "end"
                break
            content += taken
    except ReplyError:
        end = "error"
    head = exchange.head
    return head and (head.status, head.headers.pairs), content, end, exchange.reusable


def read_by_h11(method: str, data: bytes, *, ended: bool) -> Tuple[Any, ...]:
    """The same, as h11 has it."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    http.send(h11.Request(method=method, target="/", headers=[("Host", "api.test")]))
    http.send(h11.EndOfMessage())
    http.receive_data(data)
    if ended:
        http.receive_data(b"")
    head: Any = None
    content, end = b"", "open"
    try:
        while (event := http.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                fields = [
                    (n.decode("latin-1"), v.decode("latin-1")) for n, v in event.headers.raw_items()
                ]
                head = event.status_code, tuple(fields)
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) or event is h11.PAUSED:
                end = "end"
                break
    except h11.RemoteProtocolError:
        end = "error"
    return (
        head,
        content,
        end,
        end == "end" and http.their_state is h11.DONE and not http.trailing_data[0],
    )


def cut(data: bytes, places: List[int]) -> List[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in zip(marks, marks[1:]) if start < stop]


# --- Replies --------------------------------------------------------------------------------

TOKEN = st.text("abcXYZ09-_", min_size=1, max_size=8)
VALUE = st.text('abc ,;="\xe9\t', max_size=12).map(str.strip)
FIELDS = st.lists(st.tuples(TOKEN.map("X-{}".format), VALUE), max_size=3)
CHUNK = st.tuples(st.binary(min_size=1, max_size=30), st.sampled_from(["", ";x=y", " "]))


@st.composite
def replies(draw: st.DrawFn) -> Tuple[str, bytes, bool]:
    """A method, the bytes of a good reply to it, and whether the connection then ends."""
    method = draw(st.sampled_from(["GET", "POST", "HEAD"]))
    status = draw(st.sampled_from([200, 200, 404, 204, 304]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"]))
    early = draw(
        st.lists(st.sampled_from([b"100 Continue", b"103 Early Hints\r\nLink: </x>"]), max_size=2)
    )
    fields = [*draw(FIELDS), *draw(st.sampled_from([[], [("Connection", "close")]]))]
    framing = draw(st.sampled_from(["length", "chunked", "until close"]))
    content, ended = draw(st.binary(max_size=60)), draw(st.booleans())
    if framing == "chunked":
        fields.append(("Transfer-Encoding", "chunked"))
        chunks = draw(st.lists(CHUNK, max_size=4))
        lines = [b"%x%s\r\n%s\r\n" % (len(data), ext.encode(), data) for data, ext in chunks]
        trailers = draw(st.sampled_from([b"", b"T: x\r\n"]))
        content = b"".join(lines) + b"0\r\n" + trailers + b"\r\n"
    elif framing == "length":
        fields.append(("Content-Length", str(len(content))))
    else:
        ended = True
    if method == "HEAD" or status in (204, 304):
        content = b""
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    start = f"HTTP/{version} {status} OK\r\n{head}\r\n".encode("latin-1")
    return (
        method,
        b"".join(b"HTTP/1.1 %s\r\n\r\n" % each for each in early) + start + content,
        ended,
    )


CUTS = st.lists(st.integers(0, 10_000), max_size=8)


@given(replies(), CUTS)
def test_a_good_reply_is_read_as_h11_reads_it(
    reply: Tuple[str, bytes, bool], cuts: List[int]
) -> None:
    method, data, ended = reply
    exchange = begin(Request(method, "http://api.test/a", {}))
    ours = read(exchange, cut(data, cuts), ended=ended)
    head, content, end, reusable = read_by_h11(method, data, ended=ended)
    assert ours[:3] == (head, content, end)
    assert end == "end"
    assert ours[3] == (reusable and not ended)


MUTATION = st.tuples(st.integers(0, 10_000), st.integers(0, 6), st.binary(max_size=3))


@given(replies(), st.lists(MUTATION, min_size=1, max_size=3), CUTS)
@settings(max_examples=120)
def test_a_damaged_reply_is_never_read_as_more_than_h11_reads(
    reply: Tuple[str, bytes, bool], mutations: List[Tuple[int, int, bytes]], cuts: List[int]
) -> None:
    method, data, ended = reply
    for place, removed, instead in mutations:
        place %= len(data) + 1
        data = data[:place] + instead + data[place + removed :]
    assume(b" ;" not in data and b"\t;" not in data)  # h11 does not know of space before ";"
    request = Request(method, "http://api.test/a", {})
    whole = read(begin(request), [data] if data else [], ended=ended)
    assert read(begin(request), cut(data, cuts), ended=ended) == whole
    if whole[2] == "end":
        assert whole[:3] == read_by_h11(method, data, ended=ended)[:3]
    if whole[3]:
        assert read_by_h11(method, data, ended=ended)[3]


@pytest.mark.parametrize(
    "lines",
    [
        b" 200 OK\r\nContent-Length: 2\r\ncontent-length: 2",
        b" 200 OK\r\nContent-Length: 2, 2",
        b" 200 OK\r\nContent-Length: 2\r\ncontent-length: 3",
        b" 200 OK\r\nTransfer-Encoding: CHUNKED",
        b" 200 OK\r\nTransfer-Encoding: gzip",
        b" 200 OK\r\nA: b\r\n c",
        b" 200 OK\nA: b",
        b" 200 \r\nA:\t b \xe9\t",
        b" 200\r\nA: b\x01c",
        b" 200\r\nA: b\x7fc",
        b" 200 O\x01K",
        b" 200 OK\r\nA: b\x00c",
        b" 200 OK\r\nA : b",
        b" 200 OK\r\n: b",
        b" 200 OK\r\nA",
        b" 200 OK\r\nA: b\rc",
        b"200 OK",
        b"  200 OK",
        b" 20 OK",
        b" 99 OK",
        b" 600 OK",
    ],
)
def test_an_odd_head_is_read_alike_in_one_piece_and_byte_by_byte(lines: bytes) -> None:
    """h11 has no part in reading a plain head in one piece, but in every other."""
    data = b"HTTP/1.1" + lines + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    pieces = [bytes([byte]) for byte in data]
    assert read(begin(), [data], ended=True) == read(begin(), pieces, ended=True)


@pytest.mark.parametrize(
    "value", ["", "x", "+3", "3\xa0", "\xb2", "3, 3", "9" * 20, "9" * 21, "03"]
)
@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("CONNECT", 200), ("GET", 204), ("GET", 304)]
)
def test_an_odd_length_is_read_alike_where_no_body_follows(
    method: str, status: int, value: str
) -> None:
    data = f"HTTP/1.1 {status} OK\r\nContent-Length: {value}\r\n\r\n".encode("latin-1")
    request = Request(method, "http://api.test/a", {})
    whole = read(begin(request), [data])
    assert whole == read(begin(request), [bytes([byte]) for byte in data])
    assert (whole[2] == "error") is (not value.replace(", ", "").isdecimal() or len(value) > 20)


class HungUp:
    """A wire whose peer has answered and hung up."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def send(self, data: memoryview) -> int:
        raise ConnectionResetError

    def receive(self) -> bytes:
        return self._said


@pytest.mark.parametrize("hung_up", [False, True])
def test_a_refused_head_leads_to_no_frame_that_holds_it(hung_up: bool) -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
    exchange = Exchange(RequestWriter(HOST), Request("GET", "http://api.test/a", {}), "/a")
    wire: Any = HungUp(said)
    with pytest.raises(ReplyError) as caught:
        list(exchange_heads(wire, exchange)) if hung_up else exchange.bytes_received(said)
    assert caught.value.__context__ is None


class ExchangeProperties(RuleBasedStateMachine):
    """Any order of what may happen to an exchange."""

    def __init__(self) -> None:
        super().__init__()
        body = b"x" * 40
        self.exchange = Exchange(
            RequestWriter(HOST), Request("POST", "http://api.test/", {}, body), "/"
        )
        self.left = b""
        self.received = b""
        self.taken = b""
        self.broken = self.ended = False
        self.phases = [self.exchange.phase]

    @rule(reply=replies())
    @precondition(lambda self: not self.received and not self.left)
    def answer(self, reply: Tuple[str, bytes, bool]) -> None:
        self.left = reply[1]

    @rule(count=st.integers(0, 50))
    @precondition(lambda self: self.exchange.unsent and not self.received)
    def send(self, count: int) -> None:
        before = bytes(self.exchange.unsent)
        self.exchange.bytes_sent(count)
        assert bytes(self.exchange.unsent) == before[count:]

    @rule(count=st.integers(1, 80))
    @precondition(lambda self: self.left and not self.broken and not self.ended)
    def receive(self, count: int) -> None:
        piece, self.left = self.left[:count], self.left[count:]
        self.received += piece
        try:
            self.exchange.bytes_received(piece)
        except ReplyError:
            self.broken = True

    @rule()
    @precondition(lambda self: not self.broken)
    def end(self) -> None:
        self.ended = True
        try:
            self.exchange.connection_ended()
        except ReplyError:
            self.broken = True

    @rule()
    @precondition(lambda self: self.exchange.head is not None or self.broken)
    def take(self) -> None:
        if self.exchange.head is None:
            return
        try:
            data = self.exchange.take()
        except ReplyError:
            self.broken = True
        else:
            self.taken += data or b""
            assert (data == b"") <= self.exchange.finished

    @invariant()
    def phases_only_go_forward(self) -> None:
        order = list(Phase)
        self.phases.append(self.exchange.phase)
        assert [order.index(each) for each in self.phases] == sorted(map(order.index, self.phases))

    @invariant()
    def only_a_clean_connection_is_reused(self) -> None:
        if self.exchange.reusable:
            assert self.exchange.finished
            assert not self.exchange.unsent
            assert not self.ended
            assert not self.broken

    def teardown(self) -> None:
        if self.exchange.head is not None:
            content = read_by_h11("POST", self.received, ended=self.ended)[1]
            assert content.startswith(self.taken)


TestExchangeProperties = ExchangeProperties.TestCase


# --- What is bounded ------------------------------------------------------------------------


def test_informational_replies_are_bounded() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    exchange = begin()
    exchange.bytes_received(early * (MAX_HEAD // len(early)))
    with pytest.raises(ReplyError, match="too long"):
        exchange.bytes_received(early)


@pytest.mark.parametrize("size", [1000, 60_000, 200_000])
def test_a_head_is_bounded(size: int) -> None:
    for length, end in ((MAX_HEAD - 100, "end"), (MAX_HEAD + 10, "error")):
        line = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"x" * length + b"\r\n\r\n"
        pieces = [line[start : start + size] for start in range(0, len(line), size)]
        assert read(begin(), pieces)[2] == end


def test_a_body_is_bounded() -> None:
    exchange = begin(limit=10)
    exchange.bytes_received(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"x" * 11)
    with pytest.raises(ReplyError, match="more than 10 bytes"):
        exchange.take()


# --- What is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        # A server of another protocol, as one with TLS, may wait for us, and never end the line.
        (bytes.fromhex("15030100020246"), "it is not HTTP$"),
        (b"SSH-2.0-OpenSSH_9", "it is not HTTP$"),
        (b"HTTP/1.1 2x0", "it is not HTTP$"),
        (b"\x16\x03\x01", "it is not HTTP$"),
        (b"HTTP/1.1 100 Continue\r\n\r\n\x16\x03\x01", "it is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "illegal header line"),
    ],
)
def test_malformed_head_is_refused_at_once(data: bytes, reason: str) -> None:
    with pytest.raises(ReplyError, match=f"^{reason}"):
        begin().bytes_received(data)


@pytest.mark.parametrize(
    "lines",
    [
        *(b"HTTP/2.0 200 OK", b"HTTP/2 200 OK", b"HTTP/1.1200 OK", b"ICY 200 OK", b"<html>"),
        *(b"HTTP/9.9 200 OK", b"HTTP/1.1\t200\tOK", b"HTTP/1.1 000 OK"),
        *(b"HTTP/1.1 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 -20 OK"),
        *(b"\x16\x03\x01", b"\x00", b" HTTP/1.1 200 OK", b"HTTP/1.1 101 Switching Protocols"),
        *(b"HTTP/1.1 200 OK\r\nno colon", b"HTTP/1.1 200 OK\r\n: no name"),
        *(b"HTTP/1.1 200 OK\r\nX-Space : 1", b"HTTP/1.1 200 OK\r\n folded: 1"),
        *(b"HTTP/1.1 200 OK\r\nX-Null: a\0b", b"HTTP/1.1 200 OK\r\nX-Return: a\rb"),
        *(b"HTTP/1.1 200 OK\r\nContent-Length: %s" % value for value in (b"-2", b"2x", b"9" * 26)),
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        *(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %s" % value
            for value in (b"gzip", b"identity", b"xchunked", b"\x0bchunked", b"chunked, chunked")
        ),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 50_000,
    ],
)
def test_a_head_that_is_refused(lines: bytes) -> None:
    with pytest.raises(ReplyError) as caught:
        begin().bytes_received(lines + b"\r\n\r\nok")
    assert len(str(caught.value)) < 100


def test_an_error_quotes_nothing_of_the_reply() -> None:
    with pytest.raises(ReplyError) as caught:
        begin().bytes_received(f"HTTP/1.1 200 OK\r\nX: y\r\n{KEY}\r\n\r\n".encode())
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_connection_that_ends_without_response_is_an_error() -> None:
    exchange = begin()
    with pytest.raises(ReplyError, match="closed the connection before its response"):
        exchange.connection_ended()
    assert exchange.phase is Phase.MAYBE_PROCESSED


@pytest.mark.parametrize(
    ("failure", "reason"), [(OSError(), "OSError"), (OSError("no close_notify"), "no close_notify")]
)
def test_failed_connection_truncates_a_body_without_length(failure: OSError, reason: str) -> None:
    exchange = begin()
    exchange.bytes_received(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    exchange.connection_ended(failure)
    assert exchange.take() == b"half"
    with pytest.raises(ReplyError, match=f"^{reason}$"):
        exchange.take()


# --- Codings and the rest -------------------------------------------------------------------


def test_a_connection_with_more_behind_its_reply_is_not_used_again() -> None:
    exchange = begin()
    exchange.bytes_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more")
    assert (exchange.take(), exchange.take(), exchange.reusable) == (b"ok", b"", False)


def test_content_comes_before_the_error_behind_it() -> None:
    exchange = begin()
    exchange.bytes_received(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nnonsense\r\n"
    )
    assert exchange.take() == b"hello"
    for _ in range(2):
        with pytest.raises(ReplyError, match="bad chunk header"):
            exchange.take()
