from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmaestro_core.http.messages import Headers
from flowmaestro_transports.http11 import content_coding
from flowmaestro_transports.http11.content_coding import CodingError, ContentDecoder

LIMIT = 1_000_000


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


CODED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
}


def decoder(coding: str, limit: int = LIMIT) -> ContentDecoder:
    return ContentDecoder(Headers({"Content-Encoding": coding}), limit)


def inflate(coding: str, *pieces: bytes, limit: int = LIMIT) -> bytes:
    inflater = decoder(coding, limit)
    body = b""
    for piece in pieces:
        body += inflater.feed(piece)
        while inflater.pending:
            body += inflater.feed(b"")
    return body + inflater.finish()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(min(mark, len(data)) for mark in cuts), len(data)]
    return [data[start:end] for start, end in zip(marks, marks[1:])]


@pytest.mark.parametrize("coding", CODED)
@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_cut_of_the_bytes_gives_the_body_back(
    coding: str, data: bytes, cuts: list[int]
) -> None:
    assert inflate(coding, *cut(CODED[coding](data), cuts)) == data


@pytest.mark.parametrize("at_once", [1, 7, 100])
@pytest.mark.parametrize("coding", CODED)
def test_a_little_at_a_time_is_the_same(
    coding: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_coding, "MAX_PIECE", at_once)
    data = b"hello " * 50 + bytes(1000)
    for size in (1, 5, 1000):
        coded = CODED[coding](data)
        assert (
            inflate(coding, *(coded[at : at + size] for at in range(0, len(coded), size))) == data
        )


def test_a_little_at_a_time_takes_little_memory() -> None:
    coded = gzip.compress(bytes(50_000_000))
    inflater = decoder("gzip", sys.maxsize)
    tracemalloc.start()
    try:
        sizes = [len(inflater.feed(coded))]
        while inflater.pending:
            sizes.append(len(inflater.feed(b"")))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert inflater.finish() == b""
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= content_coding.MAX_PIECE
    assert peak < 5 * content_coding.MAX_PIECE


@pytest.mark.parametrize("coding", CODED)
def test_every_truncation_is_an_error(coding: str) -> None:
    coded = CODED[coding](b"hello world")
    for end in range(1, len(coded)):
        with pytest.raises(CodingError, match="too early"):
            inflate(coding, coded[:end])


@pytest.mark.parametrize("coding", CODED)
def test_a_body_without_content_is_empty(coding: str) -> None:
    assert inflate(coding) == b""
    assert inflate(coding, b"", b"") == b""


@given(cuts=st.lists(st.integers(0, 120), max_size=6), padding=st.integers(0, 3))
def test_gzip_members_follow_each_other(cuts: list[int], padding: int) -> None:
    zeros = bytes(padding)
    coded = gzip.compress(b"one ") + zeros + gzip.compress(b"") + gzip.compress(b"two") + zeros
    assert inflate("gzip", *cut(coded, cuts)) == b"one two"


def test_very_many_tiny_members_take_linear_time() -> None:
    assert inflate("gzip", gzip.compress(b"x") * 20_000) == b"x" * 20_000


HELLO = gzip.compress(b"hello"), zlib.compress(b"hello")


@pytest.mark.parametrize(
    ("coding", "pieces", "text"),
    [
        ("gzip", [HELLO[0] + b"junk"], "damaged"),
        ("gzip", [HELLO[0], b"junk"], "damaged"),
        ("gzip", [b"\xff<html>not compressed</html>"], "damaged"),
        ("gzip", [HELLO[0][:-8] + bytes(8)], "damaged"),  # a wrong checksum
        ("deflate", [HELLO[1] + b"junk"], "after its end"),
        ("deflate", [HELLO[1], b"junk"], "after its end"),
        ("deflate", [b"\xff<html>not compressed</html>"], "damaged"),
    ],
)
def test_malformed_body_is_an_error_with_its_cause(
    coding: str, pieces: list[bytes], text: str
) -> None:
    with pytest.raises(CodingError, match=text) as caught:
        inflate(coding, *pieces)
    assert isinstance(caught.value.__cause__, zlib.error) is (text == "damaged")


def test_damage_behind_content_is_pending() -> None:
    coded = gzip.compress(b"hello")
    inflater = decoder("gzip")
    assert inflater.feed(coded + b"junk") == b"hello"
    assert inflater.pending
    with pytest.raises(CodingError, match="damaged"):
        inflater.feed(b"")


@pytest.mark.parametrize("coding", CODED)
def test_the_limit_is_inclusive(coding: str) -> None:
    coded = CODED[coding](b"x" * 1000)
    assert inflate(coding, coded, limit=1000) == b"x" * 1000
    with pytest.raises(CodingError, match="more than 999 bytes"):
        inflate(coding, coded, limit=999)
    with pytest.raises(CodingError):  # Of several members, all count.
        inflate("gzip", gzip.compress(b"x" * 60) + gzip.compress(b"x" * 60), limit=100)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip"])
def test_other_codings_are_refused_with_the_first_byte(coding: str) -> None:
    other = decoder(coding)
    assert "content-encoding" in other.headers
    assert other.feed(b"") == b""
    with pytest.raises(CodingError, match="neither gzip nor deflate"):
        other.feed(b"x")


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_a_body_may_be_as_it_is(coding: str) -> None:
    assert inflate(coding, b"a", b"b", limit=2) == b"ab"
    with pytest.raises(CodingError, match="more than 1 bytes"):
        inflate(coding, b"a", b"b", limit=1)


@pytest.mark.parametrize("coding", CODED)
def test_the_headers_are_those_of_the_decoded_body(coding: str) -> None:
    assert not decoder(f" {coding} ").headers.pairs
