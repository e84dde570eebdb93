"""How the body of a reply ends, above all a chunked one, at every cut of the bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.http.messages import ResponseHead
from flowmaestro_transports.http11.failures import ReplyError
from flowmaestro_transports.http11.framing import Chunked, framing_of

PLAIN = b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n"
ORNATE = (
    b'5;name=value;quoted="a;b"\r\nhello\r\n0001 \t;x\r\n \r\n5 \r\nworld\r\n'
    b"000;last\r\nX-Checksum: abc\r\nEmpty:\r\n\r\n"
)


class BrokenBody(Exception):
    """What `decode` raises: the error, and what came whole before it."""


def decode(*pieces: bytes) -> tuple[bytes, bool, bytes]:
    body = Chunked()
    decoded = b"".join(map(body.feed, pieces))
    if body.error is not None:
        raise BrokenBody(body.error, decoded)
    return decoded, body.finished, body.rest


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(min(mark, len(data)) for mark in cuts), len(data)]
    return [data[start:end] for start, end in zip(marks, marks[1:])]


@pytest.mark.parametrize("coded", [PLAIN, ORNATE])
@pytest.mark.parametrize("after", [b"", b"\r\n", b"HTTP/1.1 200 OK\r\n"])
def test_every_two_way_cut_and_byte_by_byte(coded: bytes, after: bytes) -> None:
    expected = (b"hello world", True, after)
    data = coded + after
    assert decode(data) == expected
    assert decode(*(bytes([byte]) for byte in data)) == expected
    for place in range(len(data)):
        assert decode(data[:place], data[place:]) == expected


CHUNK_SIZES = st.sampled_from(["{:x}", "{:X}", "{:08x}", "{:x};ext=1", "{:x} ; ext"])
TRAILERS = st.lists(st.sampled_from([b"A: b", b"A:", b"x-y_z~1: \xff;,\t"]), max_size=3)


@given(
    chunks=st.lists(st.tuples(st.binary(min_size=1, max_size=40), CHUNK_SIZES), max_size=8),
    trailers=TRAILERS,
    after=st.binary(max_size=5),
    cuts=st.lists(st.integers(0, 500), max_size=12),
)
def test_any_cut_of_any_body(
    chunks: list[tuple[bytes, str]], trailers: list[bytes], after: bytes, cuts: list[int]
) -> None:
    coded = b"".join(
        size.format(len(data)).encode() + b"\r\n" + data + b"\r\n" for data, size in chunks
    )
    coded += b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n" + after
    assert decode(*cut(coded, cuts)) == (b"".join(data for data, _ in chunks), True, after)


@given(
    coded=st.lists(st.sampled_from([b"2", b"0", b"\r\n", b"ab", b";", b" ", b":", b"\r", b"\n"])),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_garbage_is_garbage_at_every_cut(coded: list[bytes], cuts: list[int]) -> None:
    data = b"".join(coded)
    try:
        expected = decode(data)
    except BrokenBody as error:
        broken = error.args
        with pytest.raises(BrokenBody) as caught:
            decode(*cut(data, cuts))
        assert caught.value.args == broken
    else:
        assert decode(*cut(data, cuts)) == expected


@pytest.mark.parametrize("coded", [PLAIN, ORNATE])
def test_a_cut_off_body_is_not_finished(coded: bytes) -> None:
    for end in range(len(coded)):
        decoded, finished, trailing = decode(coded[:end])
        assert not finished
        assert not trailing
        assert b"hello world".startswith(decoded)


def test_partial_chunk_is_returned_immediately() -> None:
    decoder = Chunked()
    assert decoder.feed(b"5\r\nhe") == b"he"
    assert decoder.feed(b"") == b""
    assert decoder.feed(b"ll") == b"ll"
    assert decoder.feed(b"o") == b"o"
    assert decoder.feed(b"\r\n0\r\n\r\n") == b""
    assert decoder.finished


@pytest.mark.parametrize(
    "coded",
    [
        b"<html>\n",
        b"g\r\n",
        b"-5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"1_0\r\n",
        b" 5\r\nhello\r\n",
        b"\r\n5\r\nhello\r\n",
        b";ext\r\n",
        b"5\nhello\r\n",
        b"5\rhello\n",
        b"5\r\nhello\n",
        b"5\r\nhello!!\n",
        b"5\r\nhello\r\r\n",
        b"5\r\nhello\r\n\r\n",
        b"00000000000000005\r\n",
        b"5 5\r\n",
        b"5;a\rb\r\n",
        b"5;a\nb\r\n",
        b"0\r\n no name\r\n",
        b"0\r\n: no name\r\n",
        b"0\r\nname only\r\n",
        b"0\r\n\n",
        b"0\r\nA: b\n",
        b"0\r\nA: \0b\r\n",
        b"0\r\nA: b\x0bc\r\n",
    ],
)
def test_malformed_chunk_is_refused(coded: bytes) -> None:
    with pytest.raises(BrokenBody, match=r"bad (chunk header|trailer)"):
        decode(coded)
    with pytest.raises(BrokenBody, match=r"bad (chunk header|trailer)"):
        decode(*(bytes([byte]) for byte in coded))


@pytest.mark.parametrize("before", [b"5;", b"0\r\nA:"])
def test_a_line_is_bounded(before: bytes) -> None:
    assert not decode(before + b"x" * 16_000)[1]
    for pieces in ([before + b"x" * 17_000 + b"\r\n"], [before, *[b"x" * 100] * 170]):
        with pytest.raises(BrokenBody, match="more than 16384 bytes"):
            decode(*pieces)


@pytest.mark.parametrize("piece", [1, 64, 16_384])
def test_the_work_is_linear_in_the_number_of_chunks(piece: int, takes_linear_time: Any) -> None:
    def decode_chunks(count: int) -> None:
        coded = b"3\r\nabc\r\n" * count
        pieces = [coded[at : at + piece] for at in range(0, len(coded), piece)]
        decoder = Chunked()
        for part in pieces:
            decoder.feed(part)

    takes_linear_time(decode_chunks, 32_000)


@pytest.mark.parametrize(
    ("before", "filler"),
    [(b"5", b" "), (b"5 ", b"\t"), (b"5;", b"x"), (b"0\r\n", b"A"), (b"0\r\nA:", b"x")],
    ids=["space", "tab", "extension", "name of a trailer", "trailer"],
)
def test_the_work_is_linear_in_the_bytes_of_a_line(
    before: bytes, filler: bytes, takes_linear_time: Any
) -> None:
    def begun(count: int) -> Chunked:
        decoder = Chunked()
        for byte in before + filler * count:
            assert decoder.feed(bytes([byte])) == b""
        return decoder

    takes_linear_time(begun, 16_000)
    decoder = begun(16_000)
    assert decoder.error is None
    decoder.feed(b"\n" + filler * 400)
    assert decoder.error is not None


@pytest.mark.parametrize(
    "coded", [b"5\r\nhello\r\nx\r\n", b"5\r\nhello!\n", b"5\r\nhello\r\n0\r\n\n"]
)
def test_complete_chunks_are_returned_before_the_error(coded: bytes) -> None:
    body = Chunked()
    assert body.feed(coded) == b"hello"
    assert body.error is not None
    assert body.feed(b"5\r\nworld\r\n") == b""


def test_trailers_are_bounded() -> None:
    line = b"A: " + b"x" * 1000 + b"\r\n"
    assert decode(b"0\r\n" + line * 60 + b"\r\n") == (b"", True, b"")
    with pytest.raises(BrokenBody, match="trailers of more than 65536 bytes"):
        decode(b"0\r\n", *[line] * 80)


def head(*fields: tuple[str, str], status: int = 200) -> ResponseHead:
    return ResponseHead(status, fields)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("HEAD", head(("Content-Length", "5"))),
        ("GET", head(("Content-Length", "5"), status=204)),
        ("GET", head(("Transfer-Encoding", "chunked"), status=304)),
        ("CONNECT", head(status=200)),
        ("GET", head(("Content-Length", "0"))),
    ],
)
def test_replies_without_a_body(method: str, given: ResponseHead) -> None:
    framing = framing_of(method, given)
    assert framing.finished
    framing.feed(b"next")
    assert framing.rest == b"next"


def test_a_body_with_a_length_ends_after_so_many_bytes() -> None:
    framing = framing_of("GET", head(("Content-Length", "5"), ("content-length", "5")))
    assert framing.feed(b"hel") == b"hel"
    assert framing.feed(b"lo, next") == b"lo"
    assert (framing.finished, framing.rest, framing.error) == (True, b", next", None)
    short = framing_of("GET", head(("Content-Length", "5")))
    short.feed(b"hell")
    short.connection_ended()
    assert short.error == "the body ended 1 bytes too early"


def test_a_body_that_ends_with_its_connection() -> None:
    framing = framing_of("GET", head())
    assert framing.feed(b"hello") == b"hello"
    assert not framing.finished
    framing.connection_ended()
    assert framing.finished


@pytest.mark.parametrize(
    "fields",
    [
        [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "identity")],
        [("Content-Length", "5, 6")],
        [("Content-Length", "+5")],
        [("Content-Length", "\u0665")],
        [("Content-Length", "")],
        [("Content-Length", "9" * 19)],
    ],
)
def test_a_head_that_leaves_the_end_open_is_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(ReplyError):
        framing_of("GET", head(*fields))
